"""The phrases by which the grader reads labels, claims, doubts, refusals and corrections, one by one."""

from __future__ import annotations

import pytest

from vigos_cli.grading import extract, grade
from vigos_cli.grading.choice import choose
from vigos_cli.grading.extract import find
from vigos_cli.grading.prose import claim, claims, declines, withdrawn

WORDS = ("red", "blue", "green")
TAKEN_BACK = "the response takes its answer back"
UNDECIDED = "the response says that it cannot be answered"
NO_FIT = "the response says that no option fits"
DECLINES = "the response declines to answer"


@pytest.mark.parametrize(
    "text",
    [
        *(
            "Option B",
            "The choice: B",
            "the answer B",
            "Letter B",
            "la opción B",
            "opção B",
            "Opzione B",
            "вариант B",
        ),
        *(
            "选项B",
            "选 B",
            "選択肢B",
            "보기 B",
            "विकल्प B",
            "الخيار B",
            "il B",
            "le B",
            "el B",
            "die B",
            "der B",
        ),
        *("So B", "Thus, B", "Hence B", "Therefore, B", "It's B", "It is (B)", '"B"', "{B}", "[B]"),
        *("I choose B", "We pick B", "I select (B)", "I'd say B", "I would go with B", "We go for B"),
        *(
            "B because it is",
            "B, since",
            "B as it is",
            "B for this reason",
            "B rather than A",
            "B instead of A",
        ),
        *("B which is it", "B where it is", "B due to it", "B not A", "B, not A", "B (not A)"),
        *(
            "B is correct",
            "B is the right option",
            "B is the best answer",
            "B is the one",
            "B is a good choice",
        ),
    ],
)
def test_a_label_with_other_words(text: str) -> None:
    assert choose(text, WORDS).index == 1


@pytest.mark.parametrize(
    "text",
    [
        *(
            "A and B",
            "A or B",
            "A und B",
            "A oder B",
            "A y B",
            "A et B",
            "A ou B",
            "A和B",
            "A或B",
            "AまたはB",
        ),
        *("A / B", "A & B", "A; B", "A, B", "(A), (B)", "a, b", "A or B, I am not sure", "option A or B"),
        *(
            "(A) is wrong",
            "(A) was not it",
            "(A) can be denied, it is wrong",
            "(A) could not be",
            "(A) isn't possible because of the friction",
        ),
        *("It might be A", "It may be A", "Perhaps A is it", "Maybe it is A", "Possibly it is A"),
        *(
            "Either it is A or B",
            "It could be A",
            "(A) but wait, that is wrong",
            "A, but wait, that is wrong",
        ),
        *("If it rains, it is A", "Unless it rains, it is A", "Suppose it is A", "Supposing it is A"),
        *("Whether it is A or not", "In case it is A", "It would have been A", "Were it to rain, it is A"),
        *(
            "如果是红的，答案是A",
            "もし 答えはA",
            "wenn es rot ist, ist die Antwort A",
            "si es rojo, la respuesta es A",
        ),
    ],
)
def test_no_label(text: str) -> None:
    assert choose(text, WORDS).index is None
    assert grade("A", text, choices=WORDS).verdict != "right"


@pytest.mark.parametrize(
    "joined", ["and", "or", "und", "oder", "y", "o", "et", "ou", "e", "/", "&", ",", ";", "和", "或"]
)
def test_two_labels_in_a_sentence(joined: str) -> None:
    assert choose(f"I see option A {joined} B", WORDS).index is None


@pytest.mark.parametrize("word", ["So", "Thus,", "Hence", "Therefore,", "Consequently,", "In conclusion,"])
def test_a_conclusion_decides_between_two_sentences(word: str) -> None:
    assert choose("The wall is red. And the car is blue.", WORDS).index is None
    assert choose(f"The wall is red. {word} the car is blue.", WORDS).index == 1


def test_a_letter_is_a_label_if_golds_are_letters() -> None:
    assert choose("B", ("B", "x"), letter=True).index == 1
    assert choose("B", ("B", "x")).index is None


def test_a_label_and_a_value() -> None:
    lengths = ("15 cm", "14 cm", "1/2 m")
    assert choose("(B) The length is 12 cm", lengths).index is None
    assert choose("(B) 12 cm, as it is short", lengths).index is None
    assert choose("(B) 14 cm, as it is short", lengths).index == 1
    assert choose("C 0.5 m", lengths).index == 2
    assert choose("The correct option is B - 14 cm.", lengths).index == 1
    assert choose("B -3", ("3", "-3")).index == 1
    assert choose("B, blue. Wait, that is wrong", WORDS).index is None
    assert grade("B", "I think (B), 12!").verdict == "right"
    assert grade("(B) blue", "(B) red").verdict != "right"
    assert choose("I see option A's edge and the sky", WORDS).index is None
    assert choose("No because there are fewer", ("Yes", "No")).index == 1
    assert choose("x=a+b", ("a-b", "a+b")).index == 1
    assert choose("2x=a+b", ("a-b", "a+b")).index is None
    assert choose("B 12 cm", lengths).index is None


@pytest.mark.parametrize(
    "verb", ["is", "was", "has", "equals", "is equal to", "becomes", "comes to", "is a total of"]
)
def test_a_claim(verb: str) -> None:
    assert claim(f"The number of them {verb} 4.") == "4"


@pytest.mark.parametrize(
    "title",
    [
        *(
            "correct",
            "the correct answer",
            "the only one",
            "the most suitable choice",
            "the best option",
            "right",
        ),
        *("the final answer", "an appropriate answer", "a valid option", "the most likely answer"),
        *("the answer here", "the answer to this question", "the right one for the problem"),
    ],
)
def test_a_claim_about_the_subject(title: str) -> None:
    assert claim(f"So, it follows: Blue is {title}.") == "Blue"


@pytest.mark.parametrize("word", ["So", "Thus", "Hence", "Therefore"])
def test_a_subject_behind_a_conjunction(word: str) -> None:
    assert claim(f"{word} blue is the correct answer.") == "blue"


@pytest.mark.parametrize(
    "sentence",
    [
        *(
            "I do not think that it is 4.",
            "It's not true that it is 4.",
            "I don't believe it is 4.",
            "It isn't 4",
        ),
        *(
            "I am not sure that it is 4.",
            "I am not certain that it is 4.",
            "I can't say it is 4.",
            "I never claim that it is 4.",
            "It is not 4.",
        ),
        *("If it rains, it is 4.", "It might be 4.", "It may be 4.", "Perhaps is 4.", "It cannot be 4."),
    ],
)
def test_no_claim(sentence: str) -> None:
    assert claims(sentence) == []


@pytest.mark.parametrize(
    "text",
    [
        *("Wait.", "Hold on.", "Scratch that.", "Strike that.", "On second thought, A.", "My mistake."),
        *(
            "I was wrong.",
            "I am mistaken.",
            "Let me correct this.",
            "I retract it.",
            "Let me take that back.",
        ),
        *(
            "I made a mistake.",
            "I made an arithmetic error.",
            "That is wrong.",
            "This is incorrect.",
            "It's wrong.",
        ),
        *(
            "It was a mistake.",
            "That must be wrong.",
            "This seems wrong.",
            "This answer is wrong.",
            "It isn't right.",
        ),
        *(
            "This cannot be correct.",
            "That can’t be it.",
            "That's not right.",
            "This was not so.",
            "It is not it.",
        ),
    ],
)
def test_taken_back(text: str) -> None:
    assert withdrawn(text) == TAKEN_BACK


@pytest.mark.parametrize(
    "text",
    [
        *(
            "It cannot be determined.",
            "We can't tell.",
            "I could not decide.",
            "It couldn't be known.",
            "无法确定",
        ),
        *(
            "It is impossible to say.",
            "I am unable to answer.",
            "I am not able to answer.",
            "There is no way to know.",
        ),
        *("Insufficient information.", "There is not enough data.", "不能确定", "It can not be said."),
    ],
)
def test_undecided(text: str) -> None:
    assert withdrawn(text) == UNDECIDED
    assert declines(text) == DECLINES


@pytest.mark.parametrize(
    "text",
    [
        *("I cannot see the image.", "I'm unable to view it.", "I can't open it.", "I couldn't process it."),
        *(
            "I cannot read it.",
            "I cannot help.",
            "I am unable.",
            "I don't have it.",
            "I do not know.",
        ),
        *("Please provide the image.", "Could you share it?", "Can you upload it?", "Would you describe it?"),
        *("Unknown.", "There is no information.", "No image.", "It is not provided."),
        *(
            "It is not visible.",
            "I am not sure.",
            "It is not clear.",
            "It is not specified.",
            "It is not given.",
        ),
    ],
)
def test_refusals(text: str) -> None:
    assert declines(text) == DECLINES
    assert withdrawn(text) is None


@pytest.mark.parametrize(
    "text",
    [
        *(
            "None of the options fits.",
            "Neither of them fits.",
            "None of these is listed.",
            "Neither of these choices is it.",
            "Not one of the answers fits.",
        ),
        *("No option fits.", "No listed alternative is it.", "None of them matches.", "None of these fit."),
        *("It is not among the options.", "This is not in the list.", "It is not one of the given choices."),
        *("It does not match any of them.", "They don't fit any.", "It fails to match the options."),
        *("It is not listed.", "This is not offered.", "All of the options are wrong."),
    ],
)
def test_no_option_fits(text: str) -> None:
    assert withdrawn(text) == declines(text) == NO_FIT


@pytest.mark.parametrize(
    "text",
    [
        *(
            "Option A is wrong since it ignores friction.",
            "It is the largest.",
            "No other option is as large.",
        ),
        *("This is right.", "The waiter brought it.", "A is incorrect and C too.", "It is not red."),
    ],
)
def test_an_explanation_takes_nothing_back(text: str) -> None:
    assert withdrawn(text) is None and declines(text) is None


@pytest.mark.parametrize(
    "text",
    [
        *(
            "The answer is B",
            "The answers are B",
            "Answers: B",
            "The correct option would be B",
            "The right choice should be B",
        ),
        *("The best option must be B", "The answer will be B", "Answer = B", "**Answer**\nB", "answer: (B)"),
        *(
            "The answer to this question is B",
            "The answer to your problem is B",
            "The answer here is simply B",
        ),
        *("The answer choice is B", "The answer is therefore B", "The answer letter is clearly B"),
        *(
            "La respuesta es B",
            "La opción correcta es B",
            "La respuesta correcta sería B",
            "La respuesta debe ser B",
        ),
        *(
            "La réponse est B",
            "La bonne option serait B",
            "L'option correcte c'est B",
            "La réponse finale est B",
        ),
        *(
            "Die Antwort ist B",
            "Die Lösung lautet B",
            "Die richtige Option wäre B",
            "A opção correta seria B",
        ),
        *(
            "A resposta é B",
            "A alternativa correta será B",
            "La risposta è B",
            "L'opzione corretta sarebbe B",
        ),
        *("Ответ: B", "Ответом является B", "Вариант — B", "Ответ это B", "Ответ на вопрос: B"),
        *("答案是B", "正确选项为B", "故选B", "应选B", "選項：B", "选项应该是B", "答案应为B", "答案為B"),
        *(
            "答えはBです",
            "解答はB",
            "正解はBである",
            "回答がB",
            "答はB",
            "정답은 B입니다",
            "정답은 B예요",
            "답변이 B",
            "답은 B이다",
        ),
        *("الإجابة هي B", "الاجابة: B", "الجواب هو B", "إجابة: B", "جواب: B", "الإجابة الصحيحة هي B"),
        *(
            "उत्तर: B है",
            "जवाब: B",
            "उत्तर — B",
            "Die Antwort auf die Frage ist B",
            "A resposta para a pergunta é B",
        ),
        *(
            "La respuesta a la pregunta es B",
            "La réponse à la question est B",
            "La risposta alla domanda è B",
        ),
        *('{"answer": "B"}', '{"final_answer": "B"}', '{"my choice": ["B"]}', '{"x": [{"Prediction": "B"}]}'),
    ],
)
def test_a_statement(text: str) -> None:
    stated = find(f"We see A first.\n{text}").stated
    assert stated and stated.text.strip("()") == "B"


@pytest.mark.parametrize(
    "token",
    ["</s>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "<eos>", "<|return|>"],
)
def test_a_response_ends_at_a_special_token(token: str) -> None:
    assert extract(f"B{token} Answer: C") == "B"


@pytest.mark.parametrize("token", ["<s>", "<bos>", "<|im_start|>assistant\n", "<|begin|><s>"])
def test_a_response_begins_behind_special_tokens(token: str) -> None:
    assert extract(f"{token} B") == "B"


@pytest.mark.parametrize("word", ["or", "and", "或", "oder", "ou", "o", "or $"])
def test_two_boxes_of_one_answer(word: str) -> None:
    assert extract(rf"\boxed{{1}} {word} \boxed{{2}}") == "1 or 2"


def test_what_surrounds_a_statement_is_left_out() -> None:
    assert extract("Answer: $ B") == extract(r"\text{Answer: B}") == extract(r"\[ Answer: B \]") == "B"
    assert extract('{"answer": "12 cm"}') == "12 cm"
    assert extract("This is not blue; the answer is 4.") == "4"


def test_a_box_or_tag_counts_before_other_statements() -> None:
    assert extract(r"\boxed{1} Answer: 2") == "1"
    assert extract(r"<think>\boxed{4}</think> That is all.") == "4"
    assert extract("<think> So it is <answer>4</answer>") == "4"
