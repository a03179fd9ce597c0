/* SPDX-License-Identifier: MIT */
/*
 * What the board tells the operating system about itself, compiled by iasl at build time.
 *
 * Everything here is the same for every guest; what depends on the guest (its processors) is
 * in an SSDT that acpi.c writes, and its addresses are those of machine/map.h. The devices
 * are those that cannot be found by looking: the PCI root with its windows and interrupt
 * routing, the serial port, the clock, pvpanic, the VM generation ID, and the ports that belong
 * to the board.
 */
DefinitionBlock ("", "DSDT", 2, "LODGE ", "BOARD   ", 1)
{
	/* SLP_TYP for soft off; there is no sleep from which this board wakes. */
	Name (\_S5, Package (4) { 5, 5, 0, 0 })

	Scope (\_SB)
	{
		Device (PCI0)
		{
			Name (_HID, EisaId ("PNP0A08"))
			Name (_CID, EisaId ("PNP0A03"))
			Name (_SEG, 0)
			Name (_BBN, 0)
			Name (_UID, 0)

			/* One bus; all ports but the configuration pair; RAM ends below the
			 * first window at the latest. */
			Name (_CRS, ResourceTemplate ()
			{
				WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode,
					0, 0, 0, 0, 1)
				IO (Decode16, 0xcf8, 0xcf8, 1, 8)
				WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
					0, 0x0000, 0x0cf7, 0, 0x0cf8)
				WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
					0, 0x0d00, 0xffff, 0, 0xf300)
				DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed,
					NonCacheable, ReadWrite,
					0, 0xc0000000, 0xdfffffff, 0, 0x20000000)
				DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed,
					NonCacheable, ReadWrite,
					0, 0xf0000000, 0xfdffffff, 0, 0x0e000000)
			})

			/* Slot s, pin p (0 is INTA) is wired to IOAPIC input 16 + (s + p) % 4. */
			Method (_PRT, 0, Serialized)
			{
				Local0 = Package (128) {}
				Local1 = 0
				While (Local1 < 128)
				{
					Local2 = Package (4) { 0, 0, 0, 0 }
					Local3 = Local1 >> 2
					Local4 = Local1 & 3
					Local2[0] = (Local3 << 16) | 0xffff
					Local2[1] = Local4
					Local2[3] = 16 + ((Local3 + Local4) & 3)
					Local0[Local1] = Local2
					Local1++
				}
				Return (Local0)
			}

			/* What the system may use of PCI Express: nothing needs native control. */
			Method (_OSC, 4)
			{
				CreateDWordField (Arg3, 0, CDW1)
				CreateDWordField (Arg3, 8, CDW3)
				If (Arg0 == ToUUID ("33db4d5b-1ff7-401c-9657-7441c03dd766"))
				{
					CDW3 = 0
				}
				Else
				{
					CDW1 |= 4
				}
				Return (Arg3)
			}

			Device (COM1)
			{
				Name (_HID, EisaId ("PNP0501"))
				Name (_UID, 1)
				Name (_STA, 15)
				Name (_CRS, ResourceTemplate ()
				{
					IO (Decode16, 0x3f8, 0x3f8, 0, 8)
					IRQNoFlags () { 4 }
				})
			}

			Device (RTC)
			{
				Name (_HID, EisaId ("PNP0B00"))
				Name (_CRS, ResourceTemplate ()
				{
					IO (Decode16, 0x70, 0x70, 0, 2)
					IRQNoFlags () { 8 }
				})
			}
		}

		/* Where a guest says that it panicked (dev/pvpanic.c). */
		Device (PEVT)
		{
			Name (_HID, "QEMU0001")
			Name (_STA, 15)
			Name (_CRS, ResourceTemplate ()
			{
				IO (Decode16, 0x505, 0x505, 1, 1)
			})
		}

		/* Where the VM generation ID is, as two halves of an address (dev/vmgenid.c). */
		Device (VGEN)
		{
			Name (_HID, "LODG0001")
			Name (_CID, "VM_Gen_Counter")
			Name (_DDN, "VM_Gen_Counter")
			Name (_STA, 15)
			Name (ADDR, Package (2) { 0x000f2000, 0 })
		}

		/* Ports and addresses that nobody else may be given. */
		Device (MBRD)
		{
			Name (_HID, EisaId ("PNP0C02"))
			Name (_UID, 1)
			Name (_CRS, ResourceTemplate ()
			{
				IO (Decode16, 0x600, 0x600, 0, 0x40)
				Memory32Fixed (ReadOnly, 0xe0000000, 0x00100000)
			})
		}
	}

	/* General-purpose event 0: the generation ID is another one (machine/board.c). */
	Scope (\_GPE)
	{
		Method (_E00)
		{
			Notify (\_SB.VGEN, 0x80)
		}
	}
}
