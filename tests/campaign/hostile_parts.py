"""The parts of hostile texts; hostile_grammar.py puts them together."""

from __future__ import annotations

SPECIAL = (
    "<|im_end|>", "<|endoftext|>", "<|vision_start|>", "<|image_pad|>", "<|vision_end|>",
    "<|im_start|>user\n",
    "<|eot_id|>", "</s>", "<|END|>", "<|im_end", "<| im_end |>", "<|object_ref_start|>", "<0x0A>", "<pad>",
)  # fmt: skip
ENDS = ("<|im_end|>", "<|endoftext|>", "</s>", "<|eot_id|>")
MARKUP = (
    "<script>{act}</script>", "<SCRIPT\n>{act}</SCRIPT\t>", "</script><script>{act}</script>",
    "<img src=x onerror={act}>", "<img src={url}/a.png>", "<svg onload={act}>",
    "<svg><script>{act}</script></svg>",
    "<a href=javascript:{act}>x</a>", "<iframe src='javascript:{act}'></iframe>",
    "<iframe src={url}/f></iframe>",
    "</textarea><script>{act}</script>", "</title><script>{act}</script>", "</style><script>{act}</script>",
    "<style>@import url({url}/s.css);body{{display:none}}</style>", "<link rel=stylesheet href={url}/l.css>",
    "<!--<script>{act}", "--><script>{act}</script>", "<![CDATA[<script>{act}</script>]]>",
    "<object data='data:text/html,<script>{act}</script>'></object>", "<embed src={url}/e>",
    "<base href={url}/>", "<meta http-equiv=refresh content='0;url={url}/m'>",
    "<form action={url}/p><input autofocus onfocus={act}>",
    "<math><mtext><img src=x onerror={act}>", "&lt;script&gt;{act}&lt;/script&gt;", "&#60;script&#62;{act}",
    "\" onmouseover={act} x=\"", "' onfocus={act} autofocus '", "<details open ontoggle={act}>",
    "<video><source onerror={act}>", "<video poster={url}/v.png>", "\\u003cscript\\u003e{act}",
    "{{{{ 7 * 7 }}}}{{% include '/etc/passwd' %}}",
    "${{{act}}}", "<div style='position:fixed;inset:0;background:url({url}/b.png)'>", "<plaintext>", "<xmp>",
    "</body></html>",
)  # fmt: skip
ACT = "document.title=`taken`,document.body.append(Object.assign(document.createElement(`b`),{id:`taken`}))"
ESCAPES = (
    "\x1b[38;5;213m", "\x1b[2J\x1b[H", "\x1b[10A", "\x1b]8;;http://evil.example/\x1b\\link\x1b]8;;\x1b\\",
    "\x1b]52;c;ZXZpbA==\x07",
    "\x1b]0;a new title\x07", "\x07", "\x08\x08\x08", "\rvigos: done\n", "\x9b38;5;213m", "\x9d0;title\x9c",
    "\x90q\x9c", "\x1bP$q q\x1b\\",
    "\x1b[6n", "\x1b[?1049h", "\x1bc", "\x1b[5i", "\x1b_Gi=1;\x1b\\", "\x0e\x0f", "\x7f", "\x85", "\x1b",
    "\x1b[", "\x0b\x0c", "\x1b[?1000h",
)  # fmt: skip
RICH = (
    "[red]", "[/red]", "[/]", "[link=http://evil.example/]x[/link]", "[bold", "[#ff0000 on blink]",
    "[@click=app.bell()]x[/]", "\\[red]",
    "[not a style]", ":smile:", "[[red]]", "[/b", "[reverse]" * 40, "[on red]\n",
)  # fmt: skip
MARKDOWN = (
    "|", "\\|", "a | b | c\n|---|---|---|", "```", "`", "``` \n| x |", "[x](http://evil.example/)",
    "![x](http://evil.example/p.png)",
    "\n# a heading\n", "\n- [ ] x", "<br>", "**", "__", "~~", "\n\n---\n\n", "<http://evil.example/>",
    "[^1]: note", "$$", "\\\\|", "&#124;",
)  # fmt: skip
FORMULAS = (
    "=cmd|' /C calc'!A0", "+1+cmd|' /C calc'!A0", "-1+1", "@SUM(1+1)*cmd|' /C calc'!A0",
    "=HYPERLINK(\"http://evil.example\")", "\t=1+1",
    "\r=1+1", "=IMPORTXML(\"http://evil.example\",\"//a\")", "\"=1+1\"", ",=1+1,", "\"\n=1+1", ";=1+1",
    "＝1+1", "=1+1\x00", "=DDE(\"cmd\";\"/C calc\")",
)  # fmt: skip
UNSEEN = (
    "\u202e", "\u202d", "\u2066", "\u2067", "\u2068", "\u200f", "\u061c", "\u200b", "\u200d", "\ufeff",
    "\u00ad", "\u2028", "\u2029", "\u180e",
    "\u034f", "\u2060", "\U000e0041", "\u0338", "\u0301" * 3_000, "a\u0489" * 500, "ﷺ" * 100, "שלום", "مرحبا",
    "\u115f", "\u3164", "\ufe0f", "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A",
)  # fmt: skip
BROKEN = (
    "\x00", "\ud800", "\udfff", "\ud83d", "\ude00\ud83d", "\ufffe", "\uffff", "\U0010ffff", "\ufffd",
    "\x00" * 500, "\udc80\udcff", "\x1a", "\x04",
    "\r", "\r\n\r", "\x1c\x1d\x1e\x1f",
)  # fmt: skip
CODE = (
    "__import__('os').system('touch {mark}')", "__import__(\"pathlib\").Path(\"{mark}\").touch()",
    "exec(\"open('{mark}','w')\")", "open('{mark}', 'w')",
    "[c for c in ().__class__.__base__.__subclasses__()]",
    "eval(compile('open(\"{mark}\",\"w\")','','exec'))", "lambda: open('{mark}','w')",
    "\\input{{{mark}}}", "\\write18{{touch {mark}}}", "$(touch {mark})", "`touch {mark}`", "; touch {mark}",
    "!!python/object/apply:os.system ['touch {mark}']",
    "{{{{ self.__init__.__globals__.os.system('touch {mark}') }}}}", "os.system('touch {mark}')",
    "sympify(\"__import__('os').system('touch {mark}')\")",
    "Symbol.__class__.__mro__", "factorial(10**9)", "(lambda f: f(f))(lambda f: f(f))", "while True: pass",
    "[__import__('os').system('touch {mark}')]",
)  # fmt: skip
BRACKETS = (
    "()", "[]", "{}", ("\\{", "\\}"), ("\\left(", "\\right)"), ("\\boxed{", "}"), ("\\sqrt{", "}"),
    ('{"a":[', "]}"), ("-(", ")"), ("2^{", "}"),
)  # fmt: skip
