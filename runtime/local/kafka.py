"""Apache Kafka, one KRaft node, from its published jars."""

import asyncio
import base64
import subprocess
import uuid
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from runtime.local.errors import PartFailedError
from runtime.local.jars import ensure_jars
from runtime.local.java import JVM_FLAGS, java_path, sharing_flags
from runtime.local.ports import HOST, listens, start_on_ports
from runtime.local.process import Child, Guardian, ProcessSpec, until_ready

NAME = "kafka"
READY_WITHIN_S = 60.0
STOP_GRACE_S = 15.0
METADATA_TIMEOUT_S = 1.0
FORMAT_TIMEOUT_S = 60.0

LOG4J = """\
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{yyyy-MM-dd HH:mm:ss,SSS} %p %m (%c)%n
rootLogger.level = info
rootLogger.appenderRef.out.ref = out
logger.config.name = org.apache.kafka.common.config
logger.config.level = warn
logger.values.name = kafka.server.KafkaConfig
logger.values.level = warn
"""


def server_properties(*, data: Path, broker_port: int, controller_port: int, advertised: str = "") -> str:
    """The broker's settings. Ports may change from start to start: nothing of them is kept in the data.

    `advertised` is where clients are sent to instead of the broker's own port: something stands before it.
    """
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{HOST}:{controller_port}",
        "listeners": f"PLAINTEXT://{HOST}:{broker_port},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{advertised or f'{HOST}:{broker_port}'}",
        "inter.broker.listener.name": "PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(data),
        "auto.create.topics.enable": "false",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.num.partitions": "4",
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        # After a SIGKILL the node waits for its own old session: 1 s instead of 9.
        "broker.session.timeout.ms": "1000",
        "broker.heartbeat.interval.ms": "250",
        "log.cleaner.dedupe.buffer.size": "8388608",
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


class KafkaServer:
    """One broker on `data`; `logs` gets kafka.log. A second start on the same data may use other ports.

    `sharing` replaces the flags that use the class archives, where one is to be made. `advertised` (host:port) is what
    clients are told to connect to; empty: the broker's own port.
    """

    name = NAME

    def __init__(
        self,
        *,
        data: Path,
        logs: Path,
        guard: Guardian,
        sharing: tuple[str, ...] | None = None,
        advertised: str = "",
    ) -> None:
        self._data = data
        self._advertised = advertised
        self._log = logs / f"{NAME}.log"
        self._guard = guard
        self._sharing = sharing
        self._ports: list[int] = []  # broker, controller
        self._admin: AdminClient | None = None
        self.child: Child | None = None

    @property
    def bootstrap(self) -> str:
        return f"{HOST}:{self._ports[0]}" if self._ports else ""

    async def start(self) -> None:
        """Format the data once, start, and wait until a record could be acknowledged."""
        await start_on_ports(self._ports, 2, self._start_on)

    async def _start_on(self, ports: list[int]) -> None:
        jars = await asyncio.to_thread(ensure_jars)
        self._ports = ports  # the same ones when this object starts again
        properties = await asyncio.to_thread(self._write_files)
        java = (str(java_path()), *JVM_FLAGS)
        main = (
            f"-Dlog4j2.configurationFile={self._data / 'log4j2.properties'}",
            "-cp",
            f"{jars}/*",
        )
        if not (self._data / "log" / "meta.properties").exists():
            await asyncio.to_thread(self._format, (*java, *sharing_flags(), *main), properties)
        sharing = sharing_flags() if self._sharing is None else self._sharing
        spec = ProcessSpec(
            name=NAME,
            argv=(*java, *sharing, *main, "kafka.Kafka", str(properties)),
            log=self._log,
            cwd=self._data,
            stop_grace_s=STOP_GRACE_S,
        )
        self.child = Child.spawn(spec, self._guard)
        await until_ready(self.child, self._acknowledges, within_s=READY_WITHIN_S, every_s=0.05)
        self._admin = None  # it would go on asking in the background

    async def stop(self, *, grace_s: float | None = None) -> None:
        if self.child is not None:
            await self.child.stop(grace_s=grace_s)

    def _write_files(self) -> Path:
        self._data.mkdir(parents=True, exist_ok=True)
        (self._data / "log4j2.properties").write_text(LOG4J)
        properties = self._data / "server.properties"
        broker_port, controller_port = self._ports
        properties.write_text(
            server_properties(
                data=self._data / "log",
                broker_port=broker_port,
                controller_port=controller_port,
                advertised=self._advertised,
            )
        )
        return properties

    def _format(self, command: tuple[str, ...], properties: Path) -> None:
        cluster = "-"
        while cluster.startswith("-"):  # the tool would read it as an option
            cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        tool = [*command, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(properties)]
        done = subprocess.run(tool, check=False, capture_output=True, text=True, timeout=FORMAT_TIMEOUT_S)
        if done.returncode != 0:
            raise PartFailedError(NAME, "its data directory cannot be formatted", (done.stdout + done.stderr).strip())

    async def _acknowledges(self) -> bool:
        """The broker is unfenced and leads every partition: then it takes topics and acknowledges records."""
        if not listens(self._ports[0]):
            return False
        if self._admin is None:
            self._admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        return await asyncio.to_thread(leads_all, self._admin)


def leads_all(admin: AdminClient) -> bool:
    try:
        metadata = admin.list_topics(timeout=METADATA_TIMEOUT_S)
    except KafkaException:
        return False
    partitions = [partition for topic in metadata.topics.values() for partition in topic.partitions.values()]
    return bool(metadata.brokers) and all(partition.leader in metadata.brokers for partition in partitions)
