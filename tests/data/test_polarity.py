import pytest

from rcsd.data.importers.polarity import polarity


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        ("The response must not omit the sign.", +1),
        ("Avoids incorrect exponents.", +1),
        ("Incorrect Core Property: The response must not claim it.", +1),
        ("The response must ignore irrelevant information.", +1),
        ("The response must acknowledge compressive forces.", +1),
        ("Failure to mention it results in a major violation.", -1),
        ("Major violation: Fails to derive it.", -1),
        ("Incorrectly states that Kw decreases.", -1),
        ("The response incorrectly ignores it.", -1),
        ("Missing either conversion.", -1),
        ("Using Celsius instead of Kelvin.", -1),
        ("Penalizes for claiming it.", -1),
        ("Selecting any other option is a major violation.", -1),
    ],
)
def test_phrasing_decides_the_sign_of_a_pitfall(text: str, sign: int):
    assert polarity(text)[0] == sign


@pytest.mark.parametrize(
    "text",
    ["Final volume must exactly equal 3.00 L.", "The response must incorrectly state or omit it."],
)
def test_an_unclear_pitfall_is_not_guessed(text: str):
    with pytest.raises(ValueError, match="unclear whether"):
        polarity(text)
