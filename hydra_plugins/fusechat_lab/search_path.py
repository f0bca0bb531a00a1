"""Hydra looks for settings where the project does: in the caller's folders before the project's own."""

from __future__ import annotations

from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.plugins.search_path_plugin import SearchPathPlugin

from fusion.runtime.places import CONF, places


class OwnSettings(SearchPathPlugin):
    """Puts the caller's folders before the project's, and leaves Hydra's other applications alone."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Raises Refusal for a folder that was named and is not there."""
        main = {str(part.path).removeprefix("file://") for part in search_path.get_path() if part.provider == "main"}
        if str(CONF) not in main:
            return
        for place in places()[:-1]:
            search_path.prepend(
                provider="fusechat_lab", path=f"file://{place}", anchor=SearchPathQuery(provider="main")
            )
