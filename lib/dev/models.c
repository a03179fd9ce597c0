/* SPDX-License-Identifier: MIT */
/* All device models, in the order in which a listing shows them. */
#include "dev/acpi_pm.h"
#include "dev/debugcon.h"
#include "dev/flash.h"
#include "dev/fw_cfg.h"
#include "dev/hpet.h"
#include "dev/i8042.h"
#include "dev/net/e1000.h"
#include "dev/pci/lpc.h"
#include "dev/pci/mch.h"
#include "dev/pci/pci.h"
#include "dev/pci/port.h"
#include "dev/port92.h"
#include "dev/pvpanic.h"
#include "dev/rtc.h"
#include "dev/storage/ahci.h"
#include "dev/storage/ide.h"
#include "dev/storage/nvme.h"
#include "dev/uart.h"
#include "dev/usb/xhci.h"
#include "dev/virtio/devices.h"
#include "dev/vga.h"
#include "dev/vmgenid.h"

#include <stddef.h>

const struct device_model *const device_models[] = {
	&uart_model,
	&rtc_model,
	&i8042_model,
	&port92_model,
	&hpet_model,
	&acpi_pm_model,
	&pvpanic_model,
	&vmgenid_model,
	&pci_host_model,
	&mch_model,
	&lpc_model,
	&pci_port_model,
	&flash_model,
	&fw_cfg_model,
	&debugcon_model,
	&vga_model,
	&e1000_model,
	&ahci_model,
	&ide_model,
	&nvme_model,
	&xhci_model,
	&virtio_balloon_model,
	&virtio_blk_model,
	&virtio_console_model,
	&virtio_fs_model,
	&virtio_keyboard_model,
	&virtio_net_model,
	&virtio_rng_model,
	&virtio_scsi_model,
	&virtio_tablet_model,
	&virtio_vga_model,
	&virtio_vsock_model,
	NULL,
};
