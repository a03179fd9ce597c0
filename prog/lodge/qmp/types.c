/* SPDX-License-Identifier: MIT */
/* The table of types: see types.h. */
#include "types.h"

#include "display/keys.h"

#include <stdio.h>
#include <string.h>

const struct qmp_builtin qmp_builtins[] = {
	{"str", "string"}, {"int", "int"}, {"number", "number"}, {"bool", "boolean"}, {"any", "value"}, {0},
};

#define OBJECT(name, members)       {name, QMP_OBJECT, members, NULL, NULL}
#define ENUM(name, words)           {name, QMP_ENUM, words, NULL, NULL}
#define UNION(name, members, cases) {name, QMP_UNION, members, cases, NULL}

const struct qmp_type qmp_types[] = {
	/* the protocol */
	ENUM("QMPCapability", ""),
	OBJECT("VersionInfo", "qemu: VersionTriple, package: str"),
	OBJECT("VersionTriple", "major: int, minor: int, micro: int"),
	OBJECT("CommandInfo", "name: str"),
	UNION("SchemaInfo", "name: str, meta-type: SchemaMetaType",
	      "builtin: SchemaInfoBuiltin, enum: SchemaInfoEnum, array: SchemaInfoArray, object: SchemaInfoObject, "
	      "command: SchemaInfoCommand, event: SchemaInfoEvent"),
	ENUM("SchemaMetaType", "builtin, enum, array, object, command, event"),
	OBJECT("SchemaInfoBuiltin", "json-type: JSONType"),
	ENUM("JSONType", "string, number, int, boolean, value"),
	OBJECT("SchemaInfoEnum", "members: [SchemaInfoEnumMember], values: [str]"),
	OBJECT("SchemaInfoEnumMember", "name: str"),
	OBJECT("SchemaInfoArray", "element-type: str"),
	OBJECT("SchemaInfoObject", "members: [SchemaInfoObjectMember], *tag: str, *variants: [SchemaInfoObjectVariant]"),
	OBJECT("SchemaInfoObjectMember", "name: str, type: str, *default: any"),
	OBJECT("SchemaInfoObjectVariant", "case: str, type: str"),
	OBJECT("SchemaInfoCommand", "arg-type: str, ret-type: str"),
	OBJECT("SchemaInfoEvent", "arg-type: str"),

	/* who the guest is, and how it is */
	OBJECT("StatusInfo", "running: bool, singlestep: bool, status: RunState"),
	ENUM("RunState", "prelaunch, running, paused, shutdown"),
	OBJECT("NameInfo", "*name: str"),
	OBJECT("UuidInfo", "UUID: str"),
	OBJECT("KvmInfo", "enabled: bool, present: bool"),
	OBJECT("TargetInfo", "arch: SysEmuTarget"),
	ENUM("SysEmuTarget", "x86_64"),
	OBJECT("MachineInfo", "name: str, cpu-max: int, hotpluggable-cpus: bool, numa-mem-supported: bool, deprecated: bool"),
	OBJECT("CurrentMachineParams", "wakeup-suspend-support: bool"),
	OBJECT("CpuInfoFast", "cpu-index: int, qom-path: str, thread-id: int, target: SysEmuTarget"),
	OBJECT("MemoryInfo", "base-memory: int, plugged-memory: int"),
	OBJECT("BalloonInfo", "actual: int"),
	OBJECT("ChardevInfo", "label: str, filename: str, frontend-open: bool"),
	OBJECT("ObjectPropertyInfo", "name: str, type: str"),

	/* disks */
	OBJECT("BlockInfo", "device: str, qdev: str, type: str, removable: bool, locked: bool, *inserted: BlockDeviceInfo, *tray_open: bool"),
	OBJECT("BlockDeviceInfo", "file: str, node-name: str, ro: bool, drv: str, backing_file_depth: int, encrypted: bool, "
	       "detect_zeroes: BlockdevDetectZeroesOptions, bps: int, bps_rd: int, bps_wr: int, iops: int, iops_rd: int, iops_wr: int, "
	       "image: ImageInfo, cache: BlockdevCacheInfo, write_threshold: int"),
	ENUM("BlockdevDetectZeroesOptions", "off"),
	OBJECT("ImageInfo", "filename: str, format: str, virtual-size: int"),
	OBJECT("BlockdevCacheInfo", "writeback: bool, direct: bool, no-flush: bool"),
	ENUM("BlockdevChangeReadOnlyMode", "retain, read-only"),

	UNION("BlockdevOptions", "*node-name: str, *read-only: bool, driver: BlockdevDriver",
	      "file: BlockdevOptionsFile, raw: BlockdevOptionsFormat, qcow2: BlockdevOptionsFormat"),
	ENUM("BlockdevDriver", "file, raw, qcow2"),
	OBJECT("BlockdevOptionsFile", "filename: str"),
	OBJECT("BlockdevOptionsFormat", "file: BlockdevOptions"),

	/* network cards */
	UNION("Netdev", "id: str, type: NetClientDriver", "stream: NetdevStreamOptions"),
	ENUM("NetClientDriver", "stream"),
	OBJECT("NetdevStreamOptions", "addr: SocketAddress"),
	UNION("SocketAddress", "type: SocketAddressType", "fd: FdSocketAddress"),
	ENUM("SocketAddressType", "fd"),
	OBJECT("FdSocketAddress", "str: str"),

	/* PCI */
	OBJECT("PciInfo", "bus: int, devices: [PciDeviceInfo]"),
	OBJECT("PciDeviceInfo", "bus: int, slot: int, function: int, class_info: PciDeviceClass, id: PciDeviceId, *irq: int, irq_pin: int, "
	       "qdev_id: str, *pci_bridge: PciBridgeInfo, regions: [PciMemoryRegion]"),
	OBJECT("PciBridgeInfo", "bus: PciBusInfo, *devices: [PciDeviceInfo]"),
	OBJECT("PciBusInfo", "number: int, secondary: int, subordinate: int, io_range: PciMemoryRange, memory_range: PciMemoryRange, "
	       "prefetchable_range: PciMemoryRange"),
	OBJECT("PciMemoryRange", "base: int, limit: int"),
	OBJECT("PciDeviceClass", "class: int"),
	OBJECT("PciDeviceId", "device: int, vendor: int, *subsystem: int, *subsystem-vendor: int"),
	OBJECT("PciMemoryRegion", "bar: int, type: str, address: int, size: int, *prefetch: bool, *mem_type_64: bool"),

	/* screen and input */
	OBJECT("VncInfo", "enabled: bool, *host: str, *family: NetworkAddressFamily, *service: str, *auth: str"),
	ENUM("NetworkAddressFamily", "ipv4, ipv6, unix"),
	OBJECT("MouseInfo", "name: str, index: int, current: bool, absolute: bool"),
	ENUM("ImageFormat", "ppm, png"),
	{"QKeyCode", QMP_ENUM, NULL, NULL, keys_name},
	UNION("KeyValue", "type: KeyValueKind", "number: IntWrapper, qcode: QKeyCodeWrapper"),
	ENUM("KeyValueKind", "number, qcode"),
	OBJECT("IntWrapper", "data: int"),
	OBJECT("QKeyCodeWrapper", "data: QKeyCode"),
	UNION("InputEvent", "type: InputEventKind", "key: InputKeyEventWrapper, btn: InputBtnEventWrapper, rel: InputMoveEventWrapper, abs: InputMoveEventWrapper"),
	ENUM("InputEventKind", "key, btn, rel, abs"),
	OBJECT("InputKeyEventWrapper", "data: InputKeyEvent"),
	OBJECT("InputBtnEventWrapper", "data: InputBtnEvent"),
	OBJECT("InputMoveEventWrapper", "data: InputMoveEvent"),
	OBJECT("InputKeyEvent", "key: KeyValue, down: bool"),
	OBJECT("InputBtnEvent", "button: InputButton, down: bool"),
	OBJECT("InputMoveEvent", "axis: InputAxis, value: int"),
	ENUM("InputButton", "left, middle, right, wheel-up, wheel-down"),
	ENUM("InputAxis", "x, y"),

	/* descriptors */
	OBJECT("AddfdInfo", "fdset-id: int, fd: int"),
	OBJECT("FdsetInfo", "fdset-id: int, fds: [FdsetFdInfo]"),
	OBJECT("FdsetFdInfo", "fd: int, *opaque: str"),

	/* what only Lodge has */
	OBJECT("LodgeScreenshot", "width: int, height: int"),
	OBJECT("LodgeMigration", "sent: int, rounds: int, down_ms: number"),
	OBJECT("LodgeFork", "layers: [LodgeLayer], disks: [LodgeDisk]"),
	OBJECT("LodgeLayer", "at: int"),
	OBJECT("LodgeDisk", "of_file: bool, slot: int, layers: [LodgeDiskLayer]"),
	OBJECT("LodgeDiskLayer", "at: int, entries: int"),

	/* events */
	OBJECT("ShutdownData", "guest: bool, reason: ShutdownCause"),
	ENUM("ShutdownCause", "host-error, host-qmp-quit, host-qmp-system-reset, host-signal, host-ui, guest-shutdown, guest-reset, guest-panic"),
	OBJECT("DeviceData", "*device: str, path: str"),
	OBJECT("TrayData", "device: str, id: str, tray-open: bool"),
	OBJECT("PanicData", "action: GuestPanicAction"),
	ENUM("GuestPanicAction", "run, poweroff"),
	{0},
};

const struct qmp_type *qmp_type_find(const char *name)
{
	for (const struct qmp_type *t = qmp_types; t->name; t++)
		if (strcmp(t->name, name) == 0)
			return t;
	return NULL;
}

/* A word up to a separator; what is too long is cut, and then no test passes. */
static void take_word(const char **at, const char *separators, char word[QMP_WORD])
{
	size_t len = strcspn(*at, separators);

	snprintf(word, QMP_WORD, "%.*s", (int)len, *at);
	*at += len;
}

bool qmp_next(const char **at, struct qmp_member *m)
{
	if (!*at || !**at)
		return false;
	m->optional = **at == '*';
	*at += m->optional;
	take_word(at, ":,", m->name);
	m->type[0] = 0;
	if (**at == ':') {
		*at += 2;
		take_word(at, ",", m->type);
	}
	if (**at == ',')
		*at += 2;
	return true;
}

const char *qmp_word(const struct qmp_type *type, unsigned i, char word[QMP_WORD])
{
	struct qmp_member m;
	const char *at = type->text;

	if (type->word)
		return type->word(i);
	do {
		if (!qmp_next(&at, &m))
			return NULL;
	} while (i--);
	return strcpy(word, m.name); /* SAFE: it has as much room */
}

void qmp_tag(const struct qmp_type *type, struct qmp_member *tag)
{
	for (const char *at = type->text; qmp_next(&at, tag);)
		;
}

bool qmp_case(const struct qmp_type *type, const char *word, struct qmp_member *m)
{
	for (const char *at = type->cases; qmp_next(&at, m);)
		if (strcmp(m->name, word) == 0)
			return true;
	return false;
}
