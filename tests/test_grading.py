import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rcsd.errors import DataError
from rcsd.evaluate import answered
from rcsd.judges.grading import can_be_wrong, grade, graded_answer, mathematics
from rcsd.judges.rewards import AnswerReward
from rcsd.types import Example, Grading

ABCD = Grading("choice", ("5 m", "3 m", "12 kg", "None of the above"))
CITY = Grading("choice", ("Paris", "London", "New York", "York"))
FORMS = Grading(
    "choice", ("It increases.", "It decreases.", r"$\frac{1}{2} m v^2$", "A and B only")
)
UNITS = Grading("choice", ("5 mV", "5 MV", "a wave", "no change"))

CHOICES = [
    # Letters, as reasoning and chat models write them.
    ("B", "B", ABCD, True),
    ("(B)", "B", ABCD, True),
    ("B.", "B", ABCD, True),
    ("b", "B", ABCD, True),
    ("**B**", "B", ABCD, True),
    ("Answer: B", "B", ABCD, True),
    ("Answer: **B**", "B", ABCD, True),
    ("**Answer:** B", "B", ABCD, True),
    ("**Final Answer:** (B)", "B", ABCD, True),
    ("## Final Answer\n\nB", "B", ABCD, True),
    ("### Answer:\n**B) 3 m**", "B", ABCD, True),
    ("The answer is B.", "B", ABCD, True),
    ("The answer is (B).", "B", ABCD, True),
    ("The correct option is (b)", "B", ABCD, True),
    ("The correct answer is option B", "B", ABCD, True),
    ("The best answer is **B**.", "B", ABCD, True),
    ("So the correct choice is B", "B", ABCD, True),
    ("Therefore, option B is correct.", "B", ABCD, True),
    ("We look at all. Option C is too large. Hence B is the correct answer.", "B", ABCD, True),
    (r"\boxed{B}", "B", ABCD, True),
    (r"$\boxed{B}$", "B", ABCD, True),
    (r"\boxed{\text{B}}", "B", ABCD, True),
    (r"\boxed{\text{(C)}}", "C", ABCD, True),
    (r"\boxed{\textbf{(C)}}", "C", ABCD, True),
    (r"\boxed{\mathrm{C}}", "C", ABCD, True),
    (r"\boxed{\mathbf{\text{C}}}", "C", ABCD, True),
    (r"\boxed{C.}", "C", ABCD, True),
    (r"\fbox{C}", "C", ABCD, True),
    (r"\boxed C", "C", ABCD, True),
    (r"\boxed{(C)\ 12\ \text{kg}}", "C", ABCD, True),
    ("Ｂ", "B", ABCD, True),  # full width
    ("答案：B", "B", ABCD, True),
    ("Respuesta: B", "B", ABCD, True),
    ("Antwort: B) 3 m", "B", ABCD, True),
    ("B", "A", ABCD, False),
    ("The answer is (A).", "B", ABCD, False),
    (r"\boxed{D}", "B", ABCD, False),
    ("E", "B", ABCD, False),  # there are four options
    # Letter and text.
    ("B) 3 m", "B", ABCD, True),
    ("B. 3 m", "B", ABCD, True),
    ("B: 3 m", "B", ABCD, True),
    ("(B) 3 m", "B", ABCD, True),
    ("B - 3 m", "B", ABCD, True),
    ("B (3 m)", "B", ABCD, True),
    ("**B. London**", "B", CITY, True),
    ("Answer: B) London, since it lies on the Thames", "B", CITY, True),
    ("Answer: C. Because A is wrong", "C", ABCD, True),
    ("Answer: C because A is wrong", "C", ABCD, True),
    ("Answer: B) Paris", "B", CITY, None),  # which of the two?
    ("Answer: A. London", "B", CITY, None),
    # Texts.
    ("Answer: London", "B", CITY, True),
    ("Answer: london.", "B", CITY, True),
    ("The answer is Paris.", "B", CITY, False),
    ("The answer is London, the capital.", "B", CITY, True),
    ("The answer is New York.", "C", CITY, True),  # not York, whose text it holds
    ("The answer is York.", "D", CITY, True),
    ("London", "London", CITY, True),
    (r"\boxed{3\,\text{m}}", "B", ABCD, True),
    (r"\boxed{3 \mathrm{~m}}", "3 m", ABCD, True),
    (r"\boxed{\text{It decreases}}", "B", FORMS, True),
    ("The answer is: it decreases", "B", FORMS, True),
    (r"\boxed{\frac{1}{2} m v^2}", "C", FORMS, True),
    ("Answer: A and B only", "D", FORMS, True),
    ("None of the above", "D", ABCD, True),
    ("Answer: None of the above", "B", CITY, False),  # no option says so
    ("Answer: 5 mV", "A", UNITS, True),  # letter case tells the options apart
    ("Answer: 5 mv", "A", UNITS, None),  # fits both
    ("Answer: a wave", "C", UNITS, True),  # not option A
    ("Answer: A wave", "C", UNITS, True),
    ("Answer: no change", "D", UNITS, True),
    # What does not commit itself, or mentions and rejects.
    ("Answer: A or B", "B", ABCD, None),
    ("Answer: both A and C", "A", ABCD, None),
    (r"\boxed{A, C}", "A", ABCD, None),
    (r"\boxed{A \text{ and } C}", "A", ABCD, None),
    ("Answer: not B but C", "C", ABCD, True),
    ("Answer: C, not B", "C", ABCD, True),
    ("Answer: C rather than B", "C", ABCD, True),
    ("The answer is neither A nor B", "C", ABCD, None),
    ("Answer: A wave of this kind cannot exist", "A", ABCD, None),  # an article
    ("Answer: I think it is C", "C", ABCD, True),
    ("Answer: 4 m", "B", ABCD, None),  # paraphrase or slip: code cannot tell
    ("The answer is not London", "B", CITY, None),
    ("First I thought A. The answer is A. No, wait. The answer is B.", "B", ABCD, True),
    (r"\boxed{A}... I made a mistake: \boxed{B}", "B", ABCD, True),
    # Thinking, cutting off, nothing.
    ("<think>The answer is A.</think>The answer is B.", "B", ABCD, True),
    ("It is A? \\boxed{A}</think>\n\n**B**", "B", ABCD, True),
    ("<think>The answer is B.</think>", "B", ABCD, False),
    ("<think>The answer is B. \\boxed{B}", "B", ABCD, False),  # an answer in a think block only
    ("[THINK]A[/THINK]B", "B", ABCD, True),
    ("", "B", ABCD, False),
    ("I cannot help with this request.\nPlease ask another.", "B", ABCD, False),
]

M = Grading("number", unit="m")
KM = Grading("number", unit=r"$\mathrm{~km}$")
C8 = Grading("number", unit=r"$10^{-8} \mathrm{C}$")
NONE = Grading("number")
PER_CENT = Grading("number", unit=r" $\%$")
KELVIN = Grading("number", unit=r"$\mathrm{K}$")
CELSIUS = Grading("number", unit=r"$^{\circ} \mathrm{C}$")
ENTROPY = Grading("number", unit=r"$\mathrm{J} \mathrm{K}^{-1} \mathrm{~mol}^{-1}$")
SPEED = Grading("number", unit=r"$\mathrm{~m} / \mathrm{s}$ ")
DEGREE = Grading("number", unit=r"$^\circ$")
EXACT = Grading("number", tolerance=0.0)
DOLLAR = Grading("number", unit=r"$\$$")
ODD = Grading("number", unit="zorkmids")

NUMBERS = [
    (r"\boxed{500}", "500", M, True),
    (r"\boxed{500 \text{ m}}", "500", M, True),
    (r"\boxed{500\,\mathrm{m}}", "500", M, True),
    (r"\boxed{500~m}", "500", M, True),
    (r"\boxed{0.5 \text{ km}}", "500", M, True),
    (r"\boxed{0.5\ \mathrm{km}}", "500 m", NONE, True),
    (r"\boxed{50000 \text{ cm}}", "500", M, True),
    (r"\boxed{5 \times 10^2}", "500", M, True),
    (r"\boxed{5.0\times10^{2}\ \text{m}}", "500", M, True),
    ("The answer is 500 meters.", "500", M, True),
    ("The final answer is approximately **500 m**.", "500", M, True),
    ("Answer: ≈ 500 m", "500", M, True),
    ("Answer: d = 500 m", "500", M, True),
    (r"\boxed{d \approx 500\text{ m}}", "500", M, True),
    (r"\boxed{0.5 \text{ km} = 500 \text{ m}}", "500", M, True),
    (r"\boxed{500 \text{ m (about 1640 ft)}}", "500", M, True),
    ("#### 500", "500", M, True),
    ("The answer is:\n\n\\[\n500 \\text{ m}\n\\]", "500", M, True),
    ("Therefore, the distance is 500 m.", "500", M, True),
    ("We have t = 3 s and v = 4 m/s. Therefore, the distance at t = 3 s is 500 m.", "500", M, True),
    ("Answer: the distance is 500 m at t = 3 s", "500", M, True),
    ("Answer: at t = 3 s, the distance is 500 m", "500", M, True),
    ("Answer: 500 m, which is about half a kilometer", "500", M, True),
    ("Answer: 500 m or 0.5 km", "500", M, True),  # both right
    (r"\boxed{500 \pm 20 \text{ m}}", "500", M, True),
    (r"\boxed{520}", "500", M, True),  # within 5%
    (r"\boxed{530}", "500", M, False),
    (r"\boxed{-500}", "500", M, False),
    (r"\boxed{500 \text{ km}}", "500", M, False),
    (r"\boxed{500 \text{ s}}", "500", M, False),
    (r"\boxed{500 \text{ m}^2}", "500", M, False),
    (r"\boxed{500 \text{ m/s}}", "500", M, False),
    (r"\boxed{1{,}000}", "1000", NONE, True),
    ("Answer: 1,000", "1000", NONE, True),
    ("Answer: 1 000", "1000", NONE, True),
    ("Answer: 1,000", "1", NONE, False),  # a comma before three digits groups them
    ("Antwort: 1.000,5", "1000.5", EXACT, True),
    ("Antwort: 3,5 km", "3.5", KM, True),
    ("Réponse: 0,025", "0.025", EXACT, True),
    ("Answer: −3", "-3", NONE, True),  # U+2212
    ("Answer: -3", "−3", NONE, True),
    ("Answer: +3", "3", NONE, True),
    ("Answer: ½", "0.5", NONE, True),
    (r"\boxed{\frac{1}{3}}", "0.3333333", NONE, True),
    (r"\boxed{\dfrac{1}{3}}", "0.3333333", NONE, True),
    ("1/3", "0.3333333", NONE, True),
    (r"\boxed{-\frac12}", "-0.5", NONE, True),
    ("Answer: 2 1/2", "2.5", EXACT, True),
    (r"\boxed{2\sqrt{2}}", "2.8284", NONE, True),
    (r"\boxed{\frac{\sqrt{3}}{2}}", "0.8660254", NONE, True),
    (r"\boxed{3\pi/4}", "2.356", NONE, True),
    (r"\boxed{\frac{\pi}{4}}", "0.785398", NONE, True),
    (r"\boxed{\ln 2}", "0.693147", NONE, True),
    (r"\boxed{e^{-2}}", "0.135335", NONE, True),
    (r"\boxed{2\sqrt{2}\sin\left(\frac{\pi}{2\sqrt{2}}\right)}", "2.534324263", NONE, True),
    (r"\boxed{2^{10}}", "1024", NONE, True),
    (r"\boxed{\frac{1}{2} + \frac{1}{3}}", "0.8333", NONE, True),
    (r"\boxed{\frac{\sqrt{3}}{2} \text{ m}}", "0.866", M, True),
    ("five", "5", NONE, True),
    ("Answer: 10^5", "100000", EXACT, True),
    ("Answer: 1.2e-3", "0.0012", EXACT, True),
    ("Answer: 1.2E−3", "0.0012", EXACT, True),
    ("Answer: 1.2 x 10^{-3}", "0.0012", EXACT, True),
    ("Answer: 1.2·10⁻³", "0.0012", EXACT, True),
    ("Answer: 1.2*10**-3", "0.0012", EXACT, True),
    ("Answer: 12 million", "1.2e7", EXACT, True),
    (r"\boxed{x = 5 \, \text{or} \, x = -5}", "5", NONE, None),
    (r"\boxed{\pm 5}", "5", NONE, None),
    (r"\boxed{x = 7 \, \text{or} \, x = -7}", "5", NONE, False),
    ("Answer: 3-4 m", "3.5", M, None),
    ("Answer: between 3 and 4 m", "3.5", M, None),
    ("Answer: 3 to 4 m", "9", M, False),
    # Factors in the unit: SciBench's own way to write 3.8e-8 C.
    (r"\boxed{3.8}", "3.8", C8, True),
    (r"\boxed{3.8 \times 10^{-8} \mathrm{~C}}", "3.8", C8, True),
    (r"\boxed{3.8\times10^{-8}}", "3.8", C8, True),
    (r"\boxed{38 \text{ nC}}", "3.8", C8, True),
    (r"\boxed{3.8 \text{ C}}", "3.8", C8, False),
    (r"\boxed{3.8 \times 10^{-7} \text{ C}}", "3.8", C8, False),
    (r"\boxed{3.8\times10^{-8}}", "3.8", NONE, False),
    (r"\boxed{5.85 \times 10^4 \text{ K}}", "5.85", Grading("number", unit=" $10^4$"), True),
    # Per cent and shares.
    (r"\boxed{9.73\%}", "9.73", PER_CENT, True),
    (r"\boxed{9.73}", "9.73", PER_CENT, True),
    (r"\boxed{0.0973}", "9.73", PER_CENT, True),
    (r"\boxed{92.5\%}", "0.925", NONE, True),
    (r"\boxed{92.5}", "0.925", NONE, False),
    (r"\boxed{43\%}", "43", NONE, None),  # a share, or per cent?
    # Units.
    (r"\boxed{300 \text{ K}}", "300", KELVIN, True),
    (r"\boxed{27^\circ\text{C}}", "300", KELVIN, True),
    (r"\boxed{27\,^{\circ}\mathrm{C}}", "27", CELSIUS, True),
    (r"\boxed{80.6 °F}", "27", CELSIUS, True),
    (r"\boxed{-2.99 °C}", "-2.99", KELVIN, True),  # below zero kelvin: a difference
    (r"\boxed{41 °C}", "41", KELVIN, None),  # a temperature, or a difference?
    (r"\boxed{45^\circ}", "45", DEGREE, True),
    (r"\boxed{45 \text{ degrees}}", "45", DEGREE, True),
    (r"\boxed{\frac{\pi}{4} \text{ rad}}", "45", DEGREE, True),
    (r"\boxed{45^\circ}", "45", NONE, True),
    (r"\boxed{191 \text{ J/(mol K)}}", "191", ENTROPY, True),
    (r"\boxed{191\ \text{J mol}^{-1}\text{ K}^{-1}}", "191", ENTROPY, True),
    (r"\boxed{191 \text{ J/mol}\cdot\text{K}}", "191", ENTROPY, True),
    (r"\boxed{0.191 \text{ kJ/mol·K}}", "191", ENTROPY, True),
    (r"\boxed{191 \frac{\text{J}}{\text{mol K}}}", "191", ENTROPY, True),
    (r"\boxed{191 \text{ J/mol}}", "191", ENTROPY, False),
    ("Answer: 475 m/s", "475", SPEED, True),
    ("Answer: 475 ms⁻¹", "475", SPEED, True),
    ("Answer: 475 m·s^-1", "475", SPEED, True),
    ("Answer: 1710 km/h", "475", SPEED, True),
    ("Answer: 475 meters per second", "475", SPEED, True),
    (r"\boxed{1.6\,\mu\text{m}}", "1.6", Grading("number", unit=r" $\mu \mathrm{m}$"), True),
    ("Answer: 1600 nm", "1.6", Grading("number", unit=r" $\mu \mathrm{m}$"), True),
    ("Answer: 1.53 Å", "0.153", Grading("number", unit="nm"), True),
    ("Answer: 1.36 J", "1", Grading("number", unit=r"$\mathrm{ft-lb}$"), True),
    (r"Answer: \$89,034.79", "89,034.79", DOLLAR, True),
    ("Answer: 258.14 dollars", "258.14", Grading("number", unit=" $"), True),
    ("Answer: 25 seconds", "25", Grading("number", unit=r"$\mathrm{~s}$ "), True),
    ("Answer: 3.0 inches", "3", Grading("number", unit=r" $\mathrm{in}$"), True),
    ("Answer: 12 zorkmids", "12", ODD, True),
    ("Answer: 12", "12", ODD, True),
    ("Answer: 12 quatloos", "12", ODD, None),  # another name for it?
    ("Answer: 5 m", "5", NONE, True),  # no unit was asked for
    # Zero, and nothing.
    ("Answer: 0", "0", NONE, True),
    ("Answer: 0.00 J", "0", Grading("number", unit="J"), True),
    ("Answer: 0.01", "0", NONE, False),
    ("Answer: 1e-19", "0", NONE, None),  # rounding, or an energy?
    (r"\boxed{\frac{mg}{k}}", "5", NONE, None),  # an expression
    (r"\boxed{\text{undefined}}", "5", NONE, None),
    ("It moves.\nIt stops.", "5", M, False),
    ("5", "a number", NONE, None),
    ("Answer: 30.1", "30", EXACT, False),
    ("Answer: 33", "30", Grading("number", tolerance=0.2), True),
]

MATH = Grading("math")
MATHEMATICS = [
    (r"\boxed{\frac{1}{2}}", "0.5", MATH, True),
    (r"\boxed{x^2 + 2x + 1}", "(x+1)^2", MATH, True),
    (r"\boxed{2\sin x\cos x}", r"\sin(2x)", MATH, True),
    (r"\boxed{x^2 + 2x}", "(x+1)^2", MATH, False),
    (r"\boxed{\{1, 2\}}", r"\{2, 1\}", MATH, True),
    (r"\boxed{(1, 2)}", "(2, 1)", MATH, False),
    ("The answer is $\\sqrt{8}$.", r"2\sqrt{2}", MATH, True),
    (r"\boxed{[0, 1)}", "[0,1)", MATH, True),
    (r"\boxed{}", "1", MATH, False),
]

TEXT = Grading("text")
TEXTS = [
    ("Answer: photosynthesis", "Photosynthesis", TEXT, True),
    ("Answer: The mitochondria.", "mitochondria", TEXT, True),
    (r"\boxed{\text{sodium chloride}}", "sodium chloride", TEXT, True),
    ("Answer: it is sodium chloride", "Sodium chloride", TEXT, True),
    ("Answer: not sodium chloride", "sodium chloride", TEXT, None),
    ("Answer: sodium chloride or potassium chloride", "sodium chloride", TEXT, None),
    ("Answer: table salt", "sodium chloride", TEXT, None),
    ("Answer: “Cell wall”", "cell wall", TEXT, True),
    ("Answer: ＣＯ₂", "CO2", TEXT, True),
    ("Long.\nMuch longer.", "cell wall", TEXT, None),
]

CUT_OFF = [
    ("The answer is 5", "5", M, False),  # 5 of 53?
    ("The answer is 5 m.\nThat is", "5", M, True),
    (r"So \boxed{5", "5", M, False),
    (r"So \boxed{5} is", "5", M, True),
    ("We begin with", "5", M, False),
    ("We begin with", "B", ABCD, False),
    ("We begin with", "cell wall", TEXT, None),
]

TABLE = CHOICES + NUMBERS + MATHEMATICS + TEXTS


@pytest.mark.parametrize(("text", "reference", "grading", "verdict"), TABLE)
def test_an_answer_is_told_right_wrong_or_ungraded(
    text: str, reference: str, grading: Grading, verdict: bool | None
):
    grade_ = grade(text, reference, grading)
    assert grade_.verdict is verdict, grade_
    assert grade_.reason


def test_the_table_is_long():
    assert len(TABLE) >= 150


@pytest.mark.parametrize(("text", "reference", "grading", "verdict"), CUT_OFF)
def test_of_a_text_that_was_cut_off_only_what_is_whole_counts(
    text: str, reference: str, grading: Grading, verdict: bool | None
):
    assert grade(text, reference, grading, finished=False).verdict is verdict
