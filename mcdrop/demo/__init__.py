"""Two models on real data, trained by the project itself: what `mcdrop demo` makes.

Needs scikit-learn (`pip install 'mcdrop[eval]'`), which carries the data; nothing is downloaded.
`train` makes the artifacts, `request` gives example rows and imports no torch.
"""
