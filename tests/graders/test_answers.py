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
from rcsd.graders.answers import can_be_wrong, grade, grade_example, mathematics
from rcsd.graders.grade import grade_text
from rcsd.graders.rewards import AnswerReward
from rcsd.types import Completion, Example, Grading

ABCD = Grading("choice", ("5 m", "3 m", "12 kg", "None of the above"))
CITY = Grading("choice", ("Paris", "London", "New York", "York"))
DRUG = Grading("choice", ("Aspirin", "Heparin", "Warfarin", "Aspirin and heparin"))
FORMS = Grading(
    "choice", ("It increases.", "It decreases.", r"$\frac{1}{2} m v^2$", "A and B only")
)
HEPATITIS = Grading("choice", ("Hepatitis C", "Hepatitis A", "Hepatitis D", "Hepatitis B"))
VITAMIN = Grading("choice", ("Vitamin K", "Vitamin C", "Vitamin D"))
CELL = Grading("choice", ("T cell disorder", "NK disorder", "B cell disorder"))
HOT = Grading("choice", ("10 °C", "25 °C", "3 °C"))
UNITS = Grading("choice", ("5 mV", "5 MV", "a wave", "no change"))

CHOICES = [
    # A model without a sense of an end asks and answers on.
    ("The answer is B. London\n\nQuestion: Which is smaller?\nAnswer: D", "B", CITY, True),
    ("\\boxed{B}\n\nUser: And now?\nAssistant: \\boxed{A}", "B", CITY, True),
    ("Question: which one?\n\nThe answer is B.", "B", CITY, True),
    # Every option is gone through before one is taken, or none.
    (
        "A. Paris - no.\nB. London - yes.\nC. New York - no.\n\nSo it is option **B**.",
        "B",
        CITY,
        True,
    ),
    ("A. Paris is wrong\nB. London fits\nC. New York is wrong\nD. York is wrong", "D", CITY, None),
    ("Options A and C are wrong. D is wrong too. Therefore, B.", "B", CITY, True),
    ("The answer is neither A nor C; it is B.", "B", CITY, True),
    ("Final answer: London (option C)", "B", CITY, None),
    ("A capital is a city. The capital of England is London.", "B", CITY, None),  # unmarked
    ("A capital is a city. I know no more.", "B", CITY, False),
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
    ("\uff22", "B", ABCD, True),  # full width
    ("答案\uff1aB", "B", ABCD, True),
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
    ("Answer: B is wrong", "B", ABCD, None),
    ("Answer: B is false", "B", ABCD, None),
    ("Answer: (B) is incorrect", "B", ABCD, None),
    ("Answer: B is not the answer", "B", ABCD, None),
    ("Answer: B is unlikely", "B", ABCD, None),
    ("Answer: B is as wrong as A", "B", ABCD, None),
    ("The correct answer cannot be B.", "B", ABCD, None),
    ("Answer: anything but B", "B", ABCD, None),
    ("Therefore, B can be ruled out.", "B", ABCD, None),
    ("Therefore, B is unlikely to be correct.", "B", ABCD, None),
    ("It is unlikely to be B", "B", ABCD, None),
    ("So B is the least plausible answer.", "B", ABCD, None),
    ("Thus B is hardly the answer", "B", ABCD, None),
    ("I would eliminate B.", "B", ABCD, None),
    ("We can discard option B.", "B", ABCD, None),
    ("Choice B is a distractor", "B", ABCD, None),
    ("What about B?", "B", ABCD, None),
    ("Is it B?", "B", ABCD, None),
    ("Answer: B?", "B", ABCD, None),
    ("The incorrect option is B", "B", ABCD, None),
    (r"\boxed{\neg B}", "B", ABCD, None),
    ("Answer: B; C", "B", ABCD, None),
    ("Answer: B\u2013C", "B", ABCD, None),
    ("Answer: B, then C", "B", ABCD, None),
    ("Answer: B to C", "B", ABCD, None),
    ("Answer: B through C", "B", ABCD, None),
    ("Answer: A is incorrect, so B", "B", ABCD, True),
    ("Answer: B (A and C are wrong)", "B", ABCD, True),
    ("Answer: B, although C is possible", "B", ABCD, True),
    ("Answer: without London", "B", CITY, None),
    ("Answer: the opposite of London", "B", CITY, None),
    ("Answer: London, and so C", "B", CITY, None),  # which of the two?
    ("Answer: A B", "B", ABCD, None),
    ("Answer: B+C", "B", ABCD, None),
    ("Answer: B (or C)", "B", ABCD, None),
    ("Answer: between B and C", "B", ABCD, None),
    ("Answer: B; alternatively C", "B", ABCD, None),
    ("Answer: B as well as C", "B", ABCD, None),
    ("Answer: B along with C", "C", ABCD, None),
    ("Answer: B but also C", "B", ABCD, None),
    ("Answer: B (wrong), C (right)", "B", ABCD, None),
    ("Answer: I'd say B, definitely not A", "B", ABCD, True),
    ("The answer is B, but it could be C", "B", ABCD, None),
    ("The answer is (B) 3 m, not (A) 5 m.", "A", ABCD, False),
    ("The answer is either A or B; I lean towards B.", "A", ABCD, None),
    ("Answer: stop aspirin", "A", DRUG, None),
    ("Answer: avoid warfarin", "C", DRUG, None),
    ("Answer: contraindicated is warfarin", "C", DRUG, None),
    ("Answer: non-Aspirin drug", "A", DRUG, None),
    ("Answer: heparin (not warfarin)", "C", DRUG, None),
    ("Answer: aspirin and heparin", "A", DRUG, False),  # the longer text
    ("Answer: aspirin and heparin", "D", DRUG, True),
    ("B it is.", "B", ABCD, True),
    # Letters within names.
    ("The answer is hepatitis B infection.", "D", HEPATITIS, True),
    ("The answer is hepatitis B infection.", "B", HEPATITIS, False),
    ("The answer is vitamin K, not vitamin C.", "A", VITAMIN, None),
    ("The answer is vitamin K, not vitamin C.", "C", VITAMIN, None),
    ("The answer is vitamin C (ascorbic acid).", "B", VITAMIN, True),
    ("The answer is vitamin C (ascorbic acid).", "C", VITAMIN, False),
    ("Answer: B cell deficiency", "B", CELL, None),
    ("Answer: a B cell disorder", "C", CELL, True),
    ("Answer: a B cell disorder", "B", CELL, False),
    ("Answer: 25 °C rise", "B", HOT, True),
    ("Answer: 25 °C rise", "C", HOT, False),
    ("The answer is about 25 C.", "C", HOT, None),
    ("Answer: sp3 C\u2013H bond", "C", ABCD, None),
    ("The diagnosis is protein C deficiency (PC).", "C", ABCD, None),
    ("The answer is c.", "C", Grading("choice", ("a", "c", "bc")), None),  # letter or text?
    ("Answer: C. difficile", "C", ABCD, None),
    ("B. cereus", "B", ABCD, None),
    ("Answer: B. because it is", "B", ABCD, True),
    ("Answer: B. decreases with time", "B", FORMS, True),
    ("Answer: A.V. aneurysm, not London", "A", CITY, None),
    ("Answer: A. i) B. ii) C. i), not D. ii)", "A", CITY, None),
    ("Answer: H - reflex", "B", ABCD, None),
    ("Answer: E) None of these", "B", ABCD, False),
    ("Answer: Valid for a year", "B", Grading("choice", ("Void", "Valid for a year")), True),
    # Layouts: a heading, a line of its own, text after the answer.
    ("**B. London**\n\nExplanation: it lies on the Thames. Paris does not.", "B", CITY, True),
    ("B) London\n\nThe reason is that it lies on the Thames.", "B", CITY, True),
    ("### Answer\nB", "B", CITY, True),
    ("**Answer**\n\nB", "B", CITY, True),
    ("It lies on the Thames. Long text.\n\n(B)", "B", CITY, True),
    ("It lies on the Thames.\n\n**B. London**", "B", CITY, True),
    ("A. Paris is in France.\nB. London is not.", "B", CITY, None),  # which line?
    ("Is the answer A? No.\n\nB", "B", CITY, True),
    ("I cannot tell. The options are A, B, C", "B", CITY, None),
    ("Option B\n\nIt lies on the Thames, as we know.", "B", CITY, True),
    ("We reason. We go on.\n\n**Option B: London**", "B", CITY, True),
    ("A) Paris - incorrect\nB) London - correct\nC) York - incorrect", "C", CITY, None),
    # Which mark counts.
    ("The incorrect answer is A. The correct option: B", "B", ABCD, True),
    ("I first thought the answer is A, which is wrong.\n\nB is right.", "B", ABCD, True),
    ("Answer: A\n\nHmm, let me see. Actually B is right", "B", ABCD, None),  # taken back
    ("Answer: A\n\nHmm, let me see. Actually B is right", "A", ABCD, None),
    ("Final answer: A. Wait, it is B.", "B", ABCD, None),
    # Thinking, cutting off, nothing.
    ("The use of <think> tags is no matter. \\boxed{B}", "B", ABCD, True),
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
    ("Answer: \u22123", "-3", NONE, True),  # U+2212
    ("Answer: -3", "\u22123", NONE, True),
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
    ("Answer: 1.2E\u22123", "0.0012", EXACT, True),
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
    ("### Answer\n500 m", "500", M, True),
    ("Answer\n\n500 m", "500", M, True),
    ("Step 1: 2.\nStep 2: 3.\n\nx = 500", "500", M, True),
    ("Step 1\n$$x = 500 \\text{ m}$$", "500", M, True),
    ("We add 3 and 2. We get x = 500.", "500", M, True),
    ("First we look.\n\nThe way is then some 500 m long.", "500", M, None),  # is it the answer?
    ("The correct answer is 5. If your answer is 6, check your units.", "5", NONE, True),
    ("The correct answer is 5. If your answer is 6, check your units.", "6", NONE, False),
    ("Answer: 5\n\nNote: the answer is independent of 7.", "5", NONE, True),
    ("The answer is 5. The answer is checked by substituting 7.", "5", NONE, True),
    ("Answer: 5. I hope this answer is helpful!", "5", NONE, True),
    ("The use of <think> tags... \\boxed{5}", "5", NONE, True),
    ("The answer is approximately:\n5.0", "5", NONE, True),
    # Bounds, denials.
    ("Answer: not 5.3 m", "5.3", M, None),
    ("Answer: less than 5.3 m", "5.3", M, None),
    ("Answer: > 5.3 m", "5.3", M, None),
    ("Answer: at least 5.3 m", "5.3", M, None),
    (r"Answer: \le 5.3", "5.3", NONE, None),
    ("Answer: The value cannot be 5.3", "5.3", NONE, None),
    ("Answer: since t > 0, t = 5.3", "5.3", NONE, True),
    # Formulas are not their first number.
    (r"\boxed{5!}", "120", NONE, None),
    ("Answer: 5!", "5", NONE, None),
    ("Answer: 5!", "7", NONE, False),
    ("Answer: ln 2", "0.693147", NONE, True),
    ("Answer: ln 2", "2", NONE, False),
    ("Answer: log 2", "2", NONE, None),  # of which base?
    ("Answer: sqrt 2", "1.4142", NONE, True),
    ("Answer: sqrt 2", "2", NONE, False),
    ("Answer: √2", "1.4142", NONE, True),
    (r"Answer: \sin 30^\circ", "0.5", NONE, True),
    (r"Answer: \sin 30", "0.5", NONE, None),  # degrees or radians?
    ("Answer: 30 sin(45)", "30", NONE, None),
    ("Answer: 3 plus 4", "3", NONE, None),
    ("Answer: 3 squared", "3", NONE, None),
    ("Answer: 5.3 times 7", "37.1", NONE, True),
    ("Answer: 5.3 times 7", "5.3", NONE, False),
    ("Answer: 3:4", "3", NONE, None),
    ("Answer: 5.3x", "5.3", NONE, None),
    ("Answer: 5i", "5", NONE, None),
    ("Answer: 3 - x", "3", NONE, None),
    ("Answer: 2mg", "2", NONE, None),  # the weight of two masses?
    ("Answer: 2 mg", "2", Grading("number", unit="mg"), True),
    ("Answer: 4 kT", "4", NONE, None),
    (r"Answer: 1\frac{1}{2}", "1.5", NONE, True),
    (r"Answer: 1\frac{1}{2}", "5.5", NONE, False),
    ("Answer: 2 hours 30 minutes", "2.5", Grading("number", unit="h"), True),
    ("Answer: 2 hours 30 minutes", "2", Grading("number", unit="h"), False),
    ("Answer: 5 ft 6 in", "5.5", Grading("number", unit="ft"), True),
    ("Answer: 5 ft 6 in", "5", Grading("number", unit="ft"), False),
    ("Answer: 5.3 inverse meters", "5.3", M, False),
    ("Answer: 5.3 inverse meters", "5.3", Grading("number", unit="1/m"), True),
    ("Answer: 5.3 1/s", "5.3", Grading("number", unit="1/s"), True),
    ("Answer: 5.3 s^{-1}", "5.3", Grading("number", unit="1/s"), True),
    # Words.
    ("Answer: minus 5.3 m", "-5.3", M, True),
    ("Answer: minus 5.3 m", "5.3", M, False),
    ("Answer: negative 5.3", "-5.3", NONE, True),
    ("Answer: minus five", "-5", NONE, True),
    ("Answer: twenty-five", "25", NONE, True),
    ("Answer: twenty-five", "5", NONE, False),
    ("Answer: two thirds", "0.6667", NONE, True),
    ("Answer: two thirds", "2", NONE, False),
    ("Answer: one half", "1", NONE, False),
    ("Answer: one hundred and five", "100", NONE, None),
    ("Answer: 5 and a half", "5.5", NONE, True),
    ("Answer: 5 and a half", "5", NONE, False),
    # A number that is beside another, or a part of something else.
    ("Answer: 5 out of 7", "5", NONE, None),
    ("Answer: 5 choose 2", "5", NONE, None),
    ("Answer: 5 mod 3", "5", NONE, None),
    ("Answer: 3 remainder 2", "3", NONE, None),
    ("Answer: 5 to the third power", "5", NONE, None),
    ("Answer: half of 5", "5", NONE, None),
    ("Answer: twice 5", "5", NONE, None),
    ("Answer: the negative of 5", "5", NONE, None),
    ("Answer: x/5", "5", NONE, None),
    (r"Answer: 5\hbar", "5", NONE, None),
    (r"Answer: 5\lambda", "5", NONE, None),
    ("Answer: 5(x+1)", "5", NONE, None),
    ("Answer: 5 \u00b1 x", "5", NONE, None),
    ("Answer: 5_8", "5", NONE, None),  # to the base 8
    ("Answer: 14(1)", "141", NONE, False),  # no brackets around a digit of it
    ("Answer: 5 e3", "5", NONE, None),
    ("Answer: 5 < x < 6", "5", NONE, None),
    ("Answer: 5 or more", "5", NONE, None),
    ("Answer: 5 at most", "5", NONE, None),
    ("Answer: 3 is too small, so 7", "3", NONE, None),
    ("Answer: is it 5?", "5", NONE, None),
    ("Answer: 5.3 m each second", "5.3", M, None),
    ("Answer: 5.3 m by 2 m", "5.3", M, None),
    ("Answer: 5.3 m less than 8 m", "5.3", M, None),
    ("Answer: 5.3 light years", "5.3", M, None),
    ("Answer: 5.3 kilo meters", "5.3", M, None),
    ("Answer: 5.3 times the height", "5.3", M, None),
    (r"\boxed{v = \sqrt{2gh}}", "14", SPEED, None),
    (r"Answer: $1.4 \cdot 10$ m/s", "10", SPEED, None),
    ("Answer: 14 m/s to the east", "14", SPEED, True),
    ("Answer: 14.0 m/s to 3 significant figures", "14", SPEED, True),
    ("Answer: 14 m/s at 300 K", "300", SPEED, False),
    (r"\boxed{5.3\ \frac{1}{\text{s}}}", "5.3", Grading("number", unit="1/s"), True),
    ("Answer: 5 times x", "5", NONE, None),
    ("Answer: 5 to the n", "5", NONE, None),
    ("Answer: 10 to the power of 5", "10", NONE, None),
    ("Answer: 5 if x > 0, else 3", "5", NONE, None),
    (r"Answer: \frac{5}{x}", "5", NONE, None),
    ("Answer: 5 dollars and 60 cents", "5", DOLLAR, False),
    ("Answer: s = ut + 1/2 at^2 = 20 m", "20", M, True),
    ("Answer: x = -20 m (20 m to the left)", "-20", M, True),
    ("Answer: $x \\approx 20.0$ m (rounded to 3 sig. figs.)", "20", M, True),
    # What stands beside the box belongs to it.
    (r"\boxed{20} cm", "20", M, False),
    (r"$\boxed{20}\text{ cm}$", "0.2", M, True),
    (r"$-\boxed{20}$", "20", M, None),
    (r"So $x = \boxed{20} + C$", "20", NONE, None),
    (r"\boxed{20} A good result", "20", M, True),
    (r"$\boxed{20}$ is the length.", "20", M, True),
    (r"\boxed{2.5} \times 10^3 m", "2500", M, True),
    (r"\boxed{2.5} \times 10^3 m", "2.5", M, False),
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
    ("Answer: 1.6 micrometers (µm)", "1.6", Grading("number", unit=r" $\mu \mathrm{m}$"), True),
    (r"\boxed{9.73\% \text{ per year}}", "9.73", PER_CENT, True),
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
    (r"\boxed{5 m}", "5 cm", MATH, None),
    (r"\boxed{5 m}", "$5$ m", MATH, True),
    (r"\boxed{5 x}", "5 y", MATH, False),
    ("The answer is $\\sqrt{8}$.", r"2\sqrt{2}", MATH, True),
    (r"\boxed{[0, 1)}", "[0,1)", MATH, True),
    (r"\boxed{5 \text{ m}}", r"5 \text{ cm}", MATH, None),
    (r"\boxed{5 \text{ cm}}", "5", MATH, True),
    (r"\boxed{50}", r"50\%", MATH, None),
    (r"\boxed{50\%}", "0.5", MATH, True),
    (r"\boxed{(1,2)}", r"\{1,2\}", MATH, None),
    (r"\boxed{\{1,2\}}", "(1,2)", MATH, None),
    ("Answer: 12 or 13", "13", MATH, None),
    (r"\boxed{5 \text{ or } 6}", "5", MATH, None),
    ("Answer: not 5", "5", MATH, None),
    (r"\boxed{5 m}", "5 cm", MATH, None),
    (r"\boxed{\geq 8}", "8", MATH, None),
    (r"\boxed{x < 2}", r"(-\infty, 2)", MATH, None),
    (r"\boxed{52_8}", "52", MATH, None),
    (r"\boxed{\text{five}}", "5", MATH, None),
    (r"\boxed{e^{i\pi}}", "-1", MATH, None),
    (r"\boxed{5 | x}", "5", MATH, None),
    (r"\boxed{5 \pmod 7}", "5", MATH, None),
    (r"\boxed{0.\overline{3}}", r"\frac13", MATH, None),
    (r"\boxed{\text{about } 5}", "5", MATH, None),
    (r"\boxed{\$5}", "5", MATH, True),
    (r"\boxed{x=\pm 2}", r"\pm 2", MATH, True),
    (r"\boxed{36\pi \text{ cm}^2}", r"36\pi", MATH, True),
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
    ("Answer: absence of oxygen", "oxygen", TEXT, None),
    ("Answer: without oxygen", "oxygen", TEXT, None),
    ("Answer: opposite of oxygen", "oxygen", TEXT, None),
    ("Answer: carbon dioxide and oxygen", "oxygen", TEXT, None),
    ("Answer: oxygen is incorrect", "oxygen", TEXT, None),
    ("Answer: cannot be oxygen", "oxygen", TEXT, None),
    ("Answer: it isn't oxygen", "oxygen", TEXT, None),
    ("Answer: half of the oxygen", "oxygen", TEXT, None),
    ("Answer: 5 kg", "5", TEXT, None),
    ("Answer: table salt", "sodium chloride", TEXT, None),
    ("Answer: “Cell wall”", "cell wall", TEXT, True),
    ("Answer: \uff23\uff2f₂", "CO2", TEXT, True),
    ("Answer: oxygen?", "oxygen", TEXT, None),
    ("Answer: Co", "CO", TEXT, None),  # cobalt
    ("Answer: 10\u00b2", "102", TEXT, None),
    ("Answer: H2O", "H\u2082O", TEXT, True),
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


def test_the_reason_says_what_was_found_and_what_was_asked_for():
    assert grade(r"\boxed{0.5 \text{ s}}", "500", M).reason == "wrong unit: 0.5 s, asked for 500 m"
    assert grade("Answer: A or B", "B", ABCD).reason == "names several options: A, B"
    assert grade("C", "B", ABCD).reason == "option C, not B"
    assert (
        grade("<think>5", "5", M).reason == "the thinking never ends, so there is no final answer"
    )
    assert "compared as written" in grade("Answer: 12 zorkmids", "12", ODD).reason


@pytest.mark.parametrize(
    ("options", "reference", "message"),
    [(("5 m", "5 m "), "A", "twice"), (("5 m", "3 m"), "C", "neither one of A, B nor an option")],
)
def test_options_that_no_answer_can_be_graded_by_are_refused(
    options: tuple[str, ...], reference: str, message: str
):
    with pytest.raises(DataError, match=message):
        grade("A", reference, Grading("choice", options))


# Examples


def test_an_example_says_how_it_is_graded_in_evaluation_and_as_a_reward():
    example = Example("1", "How far?", "500", grading=M)
    row = grade_text(example, r"\boxed{0.5 \text{ km}}")
    assert (row.right, row.extracted) == (True, r"0.5 \text{ km}")
    assert row.reason == "0.5 km is 500 m within 0.05"
    texts = [r"\boxed{0.5 \text{ km}}", r"\boxed{5}", r"\boxed{3 \text{ to } 900}"]
    ended = [Completion((), text, finished=True) for text in texts]
    scores = AnswerReward().scores([(example, completion) for completion in ended])
    assert scores[:2] == [1.0, 0.0]
    assert scores[2] != scores[2]
    assert can_be_wrong(example)


def test_a_kind_of_which_only_right_answers_are_told_gets_no_accuracy():
    example = Example("1", "What?", "salt", grading=TEXT)
    row = grade_text(example, "Answer: salt")
    assert not can_be_wrong(example)
    assert (row.right, row.extracted, row.reason) == (None, "salt", "the reference's words")


def test_an_example_without_grading_is_graded_as_its_reference_reads():
    row = grade_text(Example("1", "How far?", "500 m"), "The answer is 500 m.")
    assert (row.right, row.extracted, row.reason) == (True, None, "")
    assert grade_text(Example("1", "Who?", "Curie"), "The answer is Curie.").right is None
    assert not can_be_wrong(Example("1", "Who?"))
    with pytest.raises(DataError, match="reference_answer"):
        grade_example(Example("1", "Who?", grading=TEXT), "Curie")


# The worker


@pytest.mark.parametrize(
    ("answer", "reference"),
    [("9^{9^{9^9}}", "9^{9^{9^9}} + 1"), ("9^{387420489}", "9^{387420488} + 1")],
)
def test_what_takes_too_long_or_too_much_is_ungraded_in_time_and_the_next_task_is_done(
    answer: str, reference: str
):
    mathematics.equality("1", "2")  # it is started
    begin = time.monotonic()
    verdict, reason = mathematics.equality(answer, reference, seconds=1.0)
    assert verdict is None
    assert reason.startswith("cannot be compared: it ")
    assert time.monotonic() - begin < 3
    assert mathematics.equality(r"\frac{2}{4}", "0.5")[0] is True


def test_a_worker_that_is_killed_is_started_again():
    assert mathematics.equality("1 + 1", "2")[0] is True
    pid = mathematics._worker.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert mathematics.equality("1 + 2", "3")[0] is True
    assert mathematics._worker.pid != pid


def test_threads_share_the_worker():
    found: dict[int, bool | None] = {}

    def ask(n: int) -> None:
        found[n] = mathematics.equality(f"{n} + {n}", str(2 * n + n % 2))[0]

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: n % 2 == 0 for n in range(1, 9)}


PARENT = """
import os, signal
from rcsd.graders.answers import mathematics
mathematics.equality("1 + 1", "2")
print(mathematics._worker.pid, flush=True)
{then}
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    "then",
    ["", "mathematics.MAX_SECONDS\nmathematics._worker._process.stdin.write(TASK)\n"
     "mathematics._worker._process.stdin.flush()"],
    ids=["idle", "busy"],
)  # fmt: skip
def test_the_worker_ends_with_its_parent_even_if_that_is_killed(then: str):
    task = b'{"task": "value", "text": "\\\\sum_{n=1}^{100000000} \\\\sin(n)", "seconds": 3}\n'
    code = PARENT.format(then=then.replace("TASK", repr(task)))
    parent = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert parent.returncode == -signal.SIGKILL, parent.stderr
    until = time.monotonic() + 15
    while time.monotonic() < until and _lives(int(parent.stdout)):
        time.sleep(0.05)
    assert not _lives(int(parent.stdout))


def _lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_forked_process_gets_a_worker_of_its_own():
    code = """
import os
from rcsd.graders.answers import mathematics
assert mathematics.equality("1 + 1", "2")[0]
pid = mathematics._worker.pid
child = os.fork()
if child == 0:
    same = mathematics.equality("1 + 3", "4")[0] and mathematics._worker.pid != pid
    mathematics._worker.stop()
    os._exit(0 if same else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert mathematics.equality("1 + 4", "5")[0] and mathematics._worker.pid == pid
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_grading_needs_neither_torch_nor_sympy_nor_pint_to_be_imported():
    code = (
        "import sys, rcsd.graders.answers;"
        "assert not {'torch', 'sympy', 'pint', 'math_verify'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Laws

PIECES = st.sampled_from(
    [r"\boxed{", "}", "{", r"\frac", "answer is ", "Answer:", "A", "(b)",
     "<think>", "</think>", "5",
     "-", "^", "\u00d7", "10", "m", " ", "\n", "/", "$", "%", "°C", "=", " or ", ",", ".", "½",
     "\\pm",
     "between ", " and ", "####", "\\text{", "kg", "1e999", "9" * 30, "\x00", "\ud800"]
)  # fmt: skip
ANY = st.lists(PIECES | st.text(max_size=6), max_size=12).map("".join)
GRADINGS = st.sampled_from([ABCD, M, C8, PER_CENT, KELVIN, NONE, ODD, TEXT])


@settings(max_examples=150, derandomize=True, deadline=8000)
@given(ANY, ANY, GRADINGS, st.booleans())
def test_any_text_and_reference_are_graded(
    text: str, reference: str, grading: Grading, finished: bool
):
    if grading.kind == "choice":
        reference = "B"
    found = grade(text, reference, grading, finished)
    assert found.verdict in (True, False, None)
    assert found.reason


@settings(max_examples=40, derandomize=True, deadline=None)
@given(ANY, ANY)
def test_any_mathematics_is_graded_in_time(answer: str, reference: str):
    begin = time.monotonic()
    assert grade(rf"\boxed{{{answer}}}", reference, MATH).verdict in (True, False, None)
    assert time.monotonic() - begin < 2 * mathematics.MAX_SECONDS


@pytest.mark.parametrize("piece", ["Answer: ", "1 ", r"\frac{", "(A) or ", "1,", "<think>", "\n* "])
def test_long_texts_are_graded_in_a_moment(piece: str):
    for grading, reference in ((M, "5"), (ABCD, "B"), (TEXT, "salt")):
        begin = time.monotonic()
        grade(piece * (40_000 // len(piece)), reference, grading)
        assert time.monotonic() - begin < 2
