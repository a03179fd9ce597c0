/* SPDX-License-Identifier: MIT */
/*
 * What of the board's description is code, compiled by iasl at build time, and the objects that it hangs on.
 * What has numbers is in the SSDT, which ssdt.c makes from the board's table.
 */
DefinitionBlock ("", "DSDT", 2, "LODGE ", "BOARD   ", 1)
{
	External (\_SB.VGEN, DeviceObj)

	Scope (\_SB)
	{
		/* The SSDT adds _CRS, _PRT, and the chips of the ISA bus. */
		Device (PCI0)
		{
			Name (_HID, EisaId ("PNP0A08"))
			Name (_CID, EisaId ("PNP0A03"))
			Name (_SEG, 0)
			Name (_BBN, 0)
			Name (_UID, 0)

			/*
			 * What the system may use of PCI Express by itself: hot plug at the root ports, and the capability that
			 * it is in. It hears when it wanted more.
			 */
			Method (_OSC, 4)
			{
				CreateDWordField (Arg3, 0, CDW1)
				CreateDWordField (Arg3, 8, CDW3)
				If (Arg0 == ToUUID ("33db4d5b-1ff7-401c-9657-7441c03dd766"))
				{
					Local0 = CDW3 & 0x11
					If (Local0 != CDW3)
					{
						CDW1 |= 0x10
					}
					CDW3 = Local0
				}
				Else
				{
					CDW1 |= 4
				}
				Return (Arg3)
			}
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
