"""What each class of drawn lesion looks like: ranges and odds, which overlap between classes."""

from dataclasses import dataclass

Range = tuple[float, float]


@dataclass(frozen=True)
class Appearance:
    """How a class tends to look: ranges to draw from, and the odds of each structure."""

    melanin: Range
    blood: Range
    asymmetry: Range
    irregularity: Range
    softness: Range
    structures: dict[str, float]


APPEARANCES = {
    "akiec": Appearance(
        melanin=(0.05, 0.60),
        blood=(0.15, 0.55),
        asymmetry=(0.1, 0.7),
        irregularity=(0.10, 0.30),
        softness=(0.15, 0.40),
        structures={
            "scale": 0.85,
            "strawberry": 0.85,
            "vessels": 0.1,
            "milia": 0.1,
            "globules": 0.1,
        },
    ),
    "bcc": Appearance(
        melanin=(0.02, 0.55),
        blood=(0.10, 0.50),
        asymmetry=(0.1, 0.8),
        irregularity=(0.06, 0.25),
        softness=(0.10, 0.35),
        structures={"vessels": 0.9, "nests": 0.75, "scar": 0.08, "scale": 0.15, "globules": 0.1},
    ),
    "bkl": Appearance(
        melanin=(0.20, 1.30),
        blood=(0.00, 0.35),
        asymmetry=(0.1, 0.6),
        irregularity=(0.05, 0.22),
        softness=(0.03, 0.14),
        structures={"milia": 0.95, "network": 0.12, "veil": 0.08, "scale": 0.2, "globules": 0.05},
    ),
    "df": Appearance(
        melanin=(0.15, 0.75),
        blood=(0.05, 0.45),
        asymmetry=(0.0, 0.3),
        irregularity=(0.02, 0.12),
        softness=(0.20, 0.50),
        structures={"scar": 0.95, "network": 0.45, "strawberry": 0.05},
    ),
    "mel": Appearance(
        melanin=(0.40, 1.80),
        blood=(0.00, 0.45),
        asymmetry=(0.3, 1.0),
        irregularity=(0.12, 0.38),
        softness=(0.04, 0.18),
        structures={
            "network": 0.4,
            "globules": 0.35,
            "streaks": 0.75,
            "veil": 0.7,
            "scar": 0.08,
            "vessels": 0.08,
        },
    ),
    "nv": Appearance(
        melanin=(0.20, 1.40),
        blood=(0.00, 0.50),
        asymmetry=(0.0, 0.35),
        irregularity=(0.02, 0.12),
        softness=(0.06, 0.28),
        structures={"network": 0.85, "globules": 0.35, "streaks": 0.05, "veil": 0.02},
    ),
    "vasc": Appearance(
        melanin=(0.00, 0.35),
        blood=(0.15, 0.65),
        asymmetry=(0.0, 0.4),
        irregularity=(0.03, 0.15),
        softness=(0.03, 0.12),
        structures={"lacunae": 0.95, "veil": 0.12, "scar": 0.03},
    ),
}
