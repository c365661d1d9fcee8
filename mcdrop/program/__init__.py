"""Programs: captured models as immutable graphs, and the artifact format that stores them."""

from mcdrop.program.manifest import Manifest, SiteSpec, TensorSpec
from mcdrop.program.program import Program
from mcdrop.program.site import BatchLayout, Law, Site

__all__ = ["BatchLayout", "Law", "Manifest", "Program", "Site", "SiteSpec", "TensorSpec"]
