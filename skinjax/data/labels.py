"""Class tables: the names of a data set's classes in order, what they mean, which are malignant."""

# Alphabetical, so that the order can be told from the names alone.
HAM10000_CLASSES: tuple[str, ...] = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")

# Tschandl, Rosendahl, Kittler, Sci. Data 5, 180161 (2018), "Diagnostic categories".
HAM10000_DESCRIPTIONS: dict[str, str] = {
    "akiec": "actinic keratosis or intraepithelial carcinoma (Bowen's disease)",
    "bcc": "basal cell carcinoma",
    "bkl": "benign keratosis (seborrhoeic keratosis, solar lentigo, lichen-planus-like keratosis)",
    "df": "dermatofibroma",
    "mel": "melanoma",
    "nv": "melanocytic nevus",
    "vasc": "vascular lesion (angioma, angiokeratoma, pyogenic granuloma, haemorrhage)",
}

# The usual reading of "malignant" on HAM10000: akiec is counted in, as carcinoma in situ.
HAM10000_MALIGNANT: frozenset[str] = frozenset({"akiec", "bcc", "mel"})
