"""The loss of each published method on three entries, by hand, through its own routing file."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from logit_rows import loss_of
from written_rollouts import routed

from vigos_cli.config.schema import RoutingConfig
from vigos_cli.config.supervision_terms import supervision_rules
from vigos_cli.method.token_choice import lowest_share

P, Q = (1, 2, 1), (2, 1, 1)  # student (1/4, 1/2, 1/4) and teacher (1/2, 1/4, 1/4)
JSD = 0.0424748
# m = (p + q) / 2 = (3/8, 3/8, 1/4). KL(q || m) = 1/2 ln(4/3) + 1/4 ln(2/3) + 0 = .143841 - .101366 = .042475,
# and KL(p || m) is the same with the first two entries exchanged, so JSD = .042475.


def changed_target(name: str, **changes: Any) -> Any:
    """The configuration of a method with some keys of its only target changed."""
    config = routed(name)
    ((key, target),) = config.routing.targets.items()
    return with_routing(config, targets={key: replace(target, **changes)})


def changed_rule(name: str, **changes: Any) -> Any:
    """The configuration of a method with some keys of its only rule changed."""
    config = routed(name)
    supervise = replace(config.routing.supervise, all={**config.routing.supervise.all, **changes})
    return with_routing(config, supervise=supervise)


def with_routing(config: Any, **changes: Any) -> Any:
    routing: RoutingConfig = replace(config.routing, **changes)
    return replace(config, routing=routing)


# ---- plain teachers


@pytest.mark.parametrize(
    ("name", "teacher"), [("opsd_original", "privileged"), ("op2sd", "donor"), ("u_opsd", "agreeing")]
)
def test_each_entry_of_a_forward_kl_is_capped_and_negative_ones_are_not(name, teacher):
    # q ln(q/p): 1/2 ln 2 = .346574, capped at .05; 1/4 ln(1/2) = -.173287; 1/4 ln 1 = 0. The sum is -.123287.
    loss, grad_NV = loss_of(routed(name), student=[P], **{teacher: [Q]})
    assert loss == pytest.approx(-0.123287, abs=1e-6)
    # Of -sum q ln p only the second entry has a gradient, and the third, whose summand is 0: weights 1/4,
    # 1/4. (1/4 + 1/4) p - (0, 1/4, 1/4) = (1/8, 1/4, 1/8) - (0, 1/4, 1/4) = (1/8, 0, -1/8).
    torch.testing.assert_close(grad_NV, torch.tensor([[0.125, 0.0, -0.125]]))


def test_sdft_is_a_forward_kl_without_a_cap_over_all_but_three_tokens():
    # .346574 - .173287 = .173287. Three tokens that are far off carry nothing, and are not in the mean.
    far = (1, 1, 98)
    loss, grad_NV = loss_of(
        routed("sdft"), student=[P, P, P, P, P], shown=[far, far, far, Q, P], sampled=[0] * 5
    )
    assert loss == pytest.approx(0.173287 / 2, abs=1e-6)
    assert not grad_NV[:3].any() and not grad_NV[4].abs().max() > 1e-7
    # The gradient of a forward KL is p - q = (-1/4, 1/4, 0), half of it in a mean over two tokens.
    torch.testing.assert_close(grad_NV[3], torch.tensor([-0.125, 0.125, 0.0]))


def test_vicur_is_a_policy_gradient_with_its_log_ratio_within_ten():
    # ln p - ln q of entry 0: ln(1/4) - ln(1/2) = -.693147. The gradient is that number times (1, 0, 0) - p.
    loss, grad_NV = loss_of(routed("vicur"), student=[P], cued=[Q])
    assert loss == pytest.approx(-0.693147, abs=1e-6)
    torch.testing.assert_close(grad_NV, -0.693147 * torch.tensor([[0.75, -0.5, -0.25]]))
    # exp(-30) in place of 1/2 gives about 28.6, and in place of the student's 1/4 about -29.3: 10 and -10.
    never = math.exp(-30)
    loss, grad_NV = loss_of(routed("vicur"), student=[P], cued=[(never, 1, 1)])
    assert loss == pytest.approx(10)
    torch.testing.assert_close(grad_NV, 10 * torch.tensor([[0.75, -0.5, -0.25]]))
    loss, grad_NV = loss_of(routed("vicur"), student=[(never, 1, 1)], cued=[Q])
    assert loss == pytest.approx(-10)
    torch.testing.assert_close(grad_NV, -10 * torch.tensor([[1, -0.5, -0.5]]))


@pytest.mark.parametrize(
    ("name", "teacher"), [("vision_opd", "crop"), ("sdpo", "hinted"), ("s2vopd", "clean")]
)
def test_the_jensen_shannon_divergence_has_equal_halves(name, teacher):
    loss, _ = loss_of(routed(name), student=[P], **{teacher: [Q]})
    assert loss == pytest.approx(JSD, abs=1e-6)
    swapped, _ = loss_of(routed(name), student=[Q], **{teacher: [P]})
    assert swapped == pytest.approx(JSD, abs=1e-6)


HEAD, ONE, OTHER = [4] * 100, [2, 1], [1, 2]  # 100 probable entries and two more, which differ in their order


@pytest.mark.parametrize(
    ("name", "teacher"), [("vision_opd", "crop"), ("sdpo", "hinted"), ("s2vopd", "clean")]
)
def test_what_lies_behind_the_first_hundred_entries_costs_nothing(name, teacher):
    loss, grad_NV = loss_of(routed(name), student=[[*HEAD, *ONE]], **{teacher: [[*HEAD, *OTHER]]})
    assert abs(loss) < 1e-7 and grad_NV.abs().max() < 1e-7
    whole, _ = loss_of(
        changed_rule(name, top_k="all"), student=[[*HEAD, *ONE]], **{teacher: [[*HEAD, *OTHER]]}
    )
    assert whole > 1e-4


def test_the_rest_counts_as_one_entry_or_not_at_all():
    # Behind 100 equal entries of weight 4 lies a rest of 3 for the student and of 400 for the teacher: p =
    # 400/403 and 3/403, q = 1/2 and 1/2, m = .746278 and .253722. JSD = (1/2 ln(.5/.746278) + 1/2
    # ln(.5/.253722) + .992556 ln(.992556/.746278) + .007444 ln(.007444/.253722)) / 2 = (-.200236 + .339191 +
    # .283048 - .026267) / 2.
    student, teacher = [*HEAD, *ONE], [*[4] * 100, 200, 200]
    loss, _ = loss_of(routed("sdpo"), student=[student], hinted=[teacher])
    assert loss == pytest.approx(0.197868, abs=2e-6)
    # S2VOPD keeps the teacher's first 100: the two of 200 and 98 of 4. Both sides are renormalised on these.
    loss, _ = loss_of(routed("s2vopd"), student=[student], clean=[teacher])
    p = torch.tensor([2.0, 1, *[4] * 98]) / 395
    q = torch.tensor([200.0, 200, *[4] * 98]) / 792
    m = (p + q) / 2
    expected = ((p * (p / m).log()).sum() + (q * (q / m).log()).sum()) / 2
    assert loss == pytest.approx(float(expected), abs=1e-6)


# ---- margins


def test_opd_v_weighs_by_the_margin_and_divides_by_all_tokens():
    # Token 0 has 1/2 under the crop. Masked it has 1/4 (margin ln 2), 3/4 (negative, so 0), 1/2 (0).
    masked = [(1, 2, 1), (6, 1, 1), Q]
    loss, grad_NV = loss_of(routed("opd_v"), student=[P, P, P], crop=[Q, Q, Q], masked=masked)
    assert loss == pytest.approx(0.693147 * JSD / 3, abs=1e-6)  # .009814
    assert grad_NV[0].abs().max() > 0.01 and not grad_NV[1:].any()
    supervised, _ = loss_of(
        changed_rule("opd_v", divide_by="supervised"),
        student=[P, P],
        crop=[Q, Q],
        masked=masked[:2],
        keep=[0],
    )
    assert supervised == pytest.approx(0.693147 * JSD, abs=1e-6)
    everything, _ = loss_of(routed("opd_v"), student=[P, P], crop=[Q, Q], masked=masked[:2], keep=[0])
    assert everything == pytest.approx(0.693147 * JSD / 2, abs=1e-6)


def test_opd_v_has_no_upper_limit_of_the_weight_and_none_of_the_gradient_comes_from_it():
    rare = math.exp(-20)
    loss, grad_NV = loss_of(routed("opd_v"), student=[P], crop=[Q], masked=[(rare, 1, 1)])
    margin = math.log(0.5) - math.log(rare / (2 + rare))  # 20: ln(1/2) + 20 + ln 2
    assert loss == pytest.approx(margin * JSD, rel=1e-5) and margin == pytest.approx(20, abs=1e-6)
    _, plain_NV = loss_of(changed_rule("opd_v", token_weight=None), student=[P], crop=[Q], masked=[Q])
    torch.testing.assert_close(grad_NV, margin * plain_NV, rtol=1e-4, atol=1e-7)


def test_opd_v_with_equal_teachers_teaches_nothing():
    loss, grad_NV = loss_of(routed("opd_v"), student=[P], crop=[Q], masked=[Q])
    assert loss == 0 and not grad_NV.any()


# ---- composed targets


def test_vcsd_by_hand():
    # T = 2 takes roots: image (9, 4, 1) becomes (3, 2, 1)/6, black (1, 4, 1) becomes (1, 2, 1)/4, student (4,
    # 1, 1) becomes (2, 1, 1)/4. The last entry is exempt: 1/2 (1/2)/(1/4) = 1, 1/3 (1/3)/(1/2) = 2/9, 1/6.
    # The sum is 25/18, so q* = (18, 4, 3)/25. The limit of the support is a tenth of 1/2, so all entries are
    # inside. KL(q* || p) = .72 ln(.72/.5) + .16 ln(.16/.25) + .12 ln(.12/.25) = .262543 - .071406 - .088076 =
    # .103061. T squared times that is .412243.
    loss, grad_NV = loss_of(routed("vcsd"), student=[(4, 1, 1)], image=[(9, 4, 1)], black=[(1, 4, 1)])
    assert loss == pytest.approx(0.412243, abs=1e-6)
    # T^2 (p_T - q*) / T = 2 ((.5, .25, .25) - (.72, .16, .12)).
    torch.testing.assert_close(grad_NV, torch.tensor([[-0.44, 0.18, 0.26]]), rtol=1e-5, atol=1e-6)


def test_vcsd_leaves_out_what_the_picture_finds_unlikely():
    # image (100, 1/4, 4): roots (10, 1/2, 2); a tenth of 10 is 1, so the second is outside. black is flat.
    # The exempt entry keeps the picture's probability, and the first is 10/12.5 (10/12.5)/(1/3) = 1.92;
    # 2/12.5 = .16. So q* is (12, 0, 1)/13. The student is flat: KL = 12/13 ln(36/13) + 1/13 ln(3/13) =
    # .940218 - .112795 = .827423.
    loss, grad_NV = loss_of(routed("vcsd"), student=[(1, 1, 1)], image=[(100, 0.25, 4)], black=[(1, 1, 1)])
    assert loss == pytest.approx(4 * 0.827423, abs=1e-5)
    torch.testing.assert_close(grad_NV, 2 * torch.tensor([[1 / 3 - 12 / 13, 1 / 3, 1 / 3 - 1 / 13]]))


def test_vcsd_has_no_contrast_where_black_equals_the_picture_or_the_factor_is_zero():
    image, flat = (9, 4, 1), (1, 1, 1)
    equal, _ = loss_of(routed("vcsd"), student=[flat], image=[image], black=[image])
    # q* is the picture's own (3, 2, 1)/6: 4 (1/2 ln(3/2) + 1/3 ln 1 + 1/6 ln(1/2)) = 4 (.202733 - .115525).
    assert equal == pytest.approx(4 * 0.087208, abs=1e-5)
    none, _ = loss_of(changed_target("vcsd", scale=0.0), student=[flat], image=[image], black=[(1, 9, 9)])
    assert none == pytest.approx(equal, abs=1e-6)


def test_purified_opsd_by_hand():
    # both (8, 4, 1) over alone (1, 2, 1) is 8, 2, 1 up to a constant: D = ln 2 (3, 1, 0), less its mean ln 2
    # * 4/3: (1.155245, -.231049, -.924196). 10 tanh(D / 10) = (1.150133, -.231008, -.921574). Their
    # exponentials 3.158614, .793733, .397892 times plain (2, 1, 1)/4 are 1.579307, .198433, .099473; the sum
    # is 1.877213, so the target is (.841304, .105706, .052990). With p = (1, 2, 1)/4: m = (.545652, .302853,
    # .151495), KL(target || m) = .197333, KL(p || m) = .180777, and the JSD is .189055.
    contexts = {"both": [(8, 4, 1)], "alone": [(1, 2, 1)], "plain": [Q]}
    loss, _ = loss_of(routed("purified_opsd"), student=[P], **contexts)
    assert loss == pytest.approx(0.189055, abs=1e-6)


def test_purified_opsd_without_a_difference_is_the_model_itself():
    same = {"both": [(8, 4, 1)], "alone": [(8, 4, 1)], "plain": [Q]}
    loss, _ = loss_of(routed("purified_opsd"), student=[P], **same)
    assert loss == pytest.approx(JSD, abs=1e-6)
    zero = {"both": [(8, 4, 1)], "alone": [(1, 2, 1)], "plain": [Q]}
    loss, _ = loss_of(changed_target("purified_opsd", scale=0.0), student=[P], **zero)
    assert loss == pytest.approx(JSD, abs=1e-6)


def test_vgs_by_hand():
    # blind student (1, 2, 1)/4 times the picture (1, 1, 4) over blind (2, 1, 1): 1/2, 2, 4, so the target is
    # (1, 4, 8)/13. KL(p || target) = 1/4 ln(13/4) + 1/2 ln(13/8) + 1/4 ln(13/32) = .294664 + .242754 -
    # .225197 = .312221. KL(p || seeing) = 1/4 ln(6/4) + 1/2 ln(6/2) + 1/4 ln(6/16) = .101366 + .549306 -
    # .245207 = .405465. .405465 + 2 * .312221 = 1.029907.
    contexts = {"seeing": [(1, 1, 4)], "blind": [(2, 1, 1)], "blind_student": [(1, 2, 1)]}
    loss, _ = loss_of(routed("vgs"), student=[P], **contexts)
    assert loss == pytest.approx(1.029907, abs=1e-6)


def test_vgs_with_the_student_as_its_own_teacher_teaches_nothing():
    contexts = {"seeing": [P], "blind": [Q], "blind_student": [Q]}
    loss, grad_NV = loss_of(routed("vgs"), student=[P], **contexts)
    assert abs(loss) < 1e-6 and grad_NV.abs().max() < 1e-6


# ---- without a teacher


def test_opsa_makes_only_the_least_likely_fifth_less_likely():
    (rule,) = supervision_rules(routed("opsa").routing)
    assert rule.select is not None
    student = [(4, 1, 1), (2, 1, 1), (1, 2, 1), (3, 1, 1), (9, 1, 2)]
    logp_N = torch.tensor([w[0] / sum(w) for w in student]).log()
    kept = lowest_share(logp_N, rule.select["lowest_log_p"]).nonzero().flatten().tolist()
    assert kept == [2], "one of five: its token has 1/4"
    # 1/2 ln(1/4) = -.693147, the mean over one token. Its gradient 1/2 ((1, 0, 0) - p) makes token 0 less
    # likely.
    loss, grad_NV = loss_of(routed("opsa"), student=student, keep=kept)
    assert loss == pytest.approx(-0.693147, abs=1e-6)
    torch.testing.assert_close(grad_NV[2], torch.tensor([0.375, -0.25, -0.125]))
    assert not grad_NV[[0, 1, 3, 4]].any()


# ---- limits of the Jensen-Shannon divergence


def test_the_teachers_share_goes_from_forward_to_reverse_kl():
    # Forward: 1/2 ln 2 - 1/4 ln 2 = .173287. Reverse: 1/4 ln(1/2) + 1/2 ln 2 + 0 = .173287 too, so q is (6,
    # 1, 1)/8: forward 3/4 ln 3 + 1/8 ln(1/4) + 1/8 ln(1/2) = .823959 - .173287 - .086643 = .564029; reverse
    # 1/4 ln(1/3) + 1/2 ln 4 + 1/4 ln 2 = -.274653 + .693147 + .173287 = .591781.
    for beta, expected in ((0, 0.564029), (1, 0.591781)):
        loss, _ = loss_of(changed_rule("vision_opd", beta=beta), student=[P], crop=[(6, 1, 1)])
        assert loss == pytest.approx(expected, abs=1e-6)
