# The trees of kube-airflow-init as a versioned bundle of Airflow 3: a run stays on the commit with which it began.
import os
import time
from pathlib import Path

from airflow.dag_processing.bundles.base import BaseDagBundle

try:
    from airflow.dag_processing.bundles.base import BundleVersion
except ImportError:  # Airflow before 3.3 takes the text
    BundleVersion = str

# After so many seconds a commit that is not here is asked for once more.
AGAIN = 5


def checked(version):
    if len(version) not in (40, 64) or set(version) - set("0123456789abcdef"):
        raise ValueError("%r is not a commit" % (version,))
    return version


class GitTrees(BaseDagBundle):
    """Reads ROOT/.worktrees/COMMIT, and asks the process that makes them for one that is not here."""

    supports_versioning = True

    def __init__(self, *, root, link, subdir="", wait=120, **kwargs):
        super().__init__(**kwargs)
        self._root, self._link, self._subdir, self._wait = Path(root), link, subdir, wait
        self._current = None

    def _published(self):
        return checked(os.path.basename(os.readlink(self._link)))

    def _tree(self, version):
        return self._root / ".worktrees" / checked(version)

    def _ask(self, version):
        # Nobody but that process has the credentials. Returns what is in the way.
        try:
            pipe = os.open(str(self._root / ".wanted"), os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            return "nobody can be asked for it: %s" % error
        try:
            os.write(pipe, ("%s\n" % version).encode())
        except OSError as error:
            return "nobody can be asked for it: %s" % error
        finally:
            os.close(pipe)
        return "the log of git-sync says why"

    def _ask_for(self, version):
        # That process may be starting again, and its fetch may fail: it is asked more than once.
        end = time.monotonic() + self._wait
        due = time.monotonic()
        while not self._tree(version).is_dir():
            now = time.monotonic()
            if now >= due:
                why, due = self._ask(version), now + AGAIN
            if now > end:
                raise RuntimeError("commit %s is not here and was not fetched within %s s; %s" % (version, self._wait, why))
            time.sleep(0.2)

    def initialize(self):
        if self.version:
            if not self._tree(self.version).is_dir():
                self._ask_for(self.version)
            try:
                # A tree that is used is not an old one.
                os.utime(str(self._tree(self.version)))
            except OSError:
                pass
            # Airflow's removal of stale versions wants a folder of its own to remove: the trees are not its.
            (self.versions_dir / self.version).mkdir(parents=True, exist_ok=True)
        else:
            self.refresh()
        super().initialize()

    def refresh(self):
        if self.version:
            raise RuntimeError("a bundle of one version has nothing to refresh")
        self._current = self._published()

    def get_current_version(self):
        return BundleVersion(self.version or self._current or self._published())

    @property
    def path(self):
        # The same between two refreshes, so that no parse mixes two commits.
        return self._tree(self.version or self._current or self._published()) / self._subdir
