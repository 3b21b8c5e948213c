"""Jobs as tasks of Ray, which places them, starts lost ones again and shows them."""

import os
import signal
from collections.abc import Callable, Sequence
from typing import Any

from dpaudit.errors import PartialError, UsageError
from dpaudit.machines.place import Place, no_ray
from dpaudit.machines.work import Order, perform

RETRIES = 3  # of a task whose worker died
TOLD = 200  # characters
CANCEL = 10.0  # seconds for tasks to tidy up


class OnRay:
    """A connection to a Ray.

    Each job takes one accelerator where there are any, else one core if it is `light`, else those of a
    machine.
    """

    def __init__(self, place: Place, light: bool, say: Callable[[str], None]) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing is reported to anybody
        import ray
        from ray._private import worker

        def tell(data: dict[str, Any], **_: object) -> None:
            say(f"Ray: {data['lines'][0].splitlines()[0].partition('. ')[0][:TOLD]}")

        self._ray = ray
        worker.print_to_stdstream = tell  # of workers that die; Ray would print to stdout, among results
        _connect(place)
        nodes = [node for node in ray.nodes() if node["Alive"]]
        self._nodes = [node["NodeID"] for node in nodes]
        gpus = sum(int(node["Resources"].get("GPU", 0)) for node in nodes)
        cores = [int(node["Resources"]["CPU"]) for node in nodes if node["Resources"].get("CPU")]
        self._cores = 1 if light or gpus or not cores else min(cores)
        each = "1 accelerator" if gpus else f"{self._cores} core{'s' * (self._cores > 1)}"
        say(
            f"Ray: {len(nodes)} machine{'s' * (len(nodes) > 1)}, {sum(cores)} cores, {gpus} accelerators; "
            f"each arm takes {each}"
        )
        # a process of its own for each job: memory, threads and generators of another are gone
        task = ray.remote(max_calls=1, max_retries=RETRIES)(perform)
        self._task = task.options(num_cpus=self._cores, num_gpus=1 if gpus else 0)

    @property
    def threads(self) -> int:
        return self._cores

    def look(self, order: Order) -> None:
        """Has every machine of the cluster look for the run, before anything is trained."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        task = self._ray.remote(perform)
        there = [
            task.options(
                num_cpus=0,
                max_retries=RETRIES,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node, False),
            ).remote(order)
            for node in self._nodes
        ]
        for one in there:
            if (error := self._result(order, one)) is not None:
                raise error

    def submit(self, order: Order) -> Any:
        return self._task.remote(order)

    def ended(self, order: Order, handle: Any) -> bool:
        """Whether a job is done. Raises the error that ended it."""
        if not self._ray.wait([handle], timeout=0)[0]:
            return False
        if (error := self._result(order, handle)) is not None:
            raise error
        return True

    def _result(self, order: Order, handle: Any) -> Exception | None:
        from ray import exceptions

        try:
            error: Exception | None = self._ray.get(handle)
            return error
        except exceptions.OutOfMemoryError:
            got = "a machine without memory left"
        except exceptions.RayTaskError:
            return UsageError(
                order.title,
                f"dpaudit {order.version} on every worker",
                "a worker that cannot read the job",
                "install it in the Python of the workers",
            )
        except exceptions.TaskCancelledError:
            got = "a task that somebody cancelled"
        except exceptions.RayError:
            got = f"{RETRIES + 1} workers that died"
        return PartialError(
            f"{order.title}: expected the work to end, got {got}; type the command again to continue"
        )

    def cancel(self, handles: Sequence[Any]) -> None:
        """Ends tasks that did not end by themselves, as they do once the call is gone."""
        if handles:
            _, left = self._ray.wait(list(handles), num_returns=len(handles), timeout=CANCEL)
            for handle in left:
                self._ray.cancel(handle, force=True)

    def close(self) -> None:
        self._ray.shutdown()


def _connect(place: Place) -> None:
    """Joins the Ray at the place's address; without one that of this machine, or a new one.

    Ray's own handling of signals is undone: this command's own ends the tasks.
    """
    import ray

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        ray.init(place.name, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    except RuntimeError as error:
        if "ersion mismatch" not in str(error):
            raise no_ray(place) from None
        raise UsageError(
            f"--on {place}",
            f"a Ray of version {ray.__version__} under the same version of Python",
            "another version",
            "install the versions of the cluster here",
        ) from None
    except (ConnectionError, ValueError, TimeoutError):
        raise no_ray(place) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
