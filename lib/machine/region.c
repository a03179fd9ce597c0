/* SPDX-License-Identifier: MIT */
/*
 * See region.h. The KVM ABI has slots that are deleted and made, and no way to change one's memory or rights; a
 * vCPU that comes in between exits with an access that the bus gets. That is why firmware changes what it
 * does not run in, and why the kernel's clients live with it, too.
 *
 * A slot that is deleted takes its dirty log with it, so while one is kept all pages of the region count as written.
 */
#include "machine/region.h"

#include "base/scoped.h"
#include "machine/layer.h"
#include "machine/private.h"

void machine_mark_written(struct machine *m, const uint8_t *bytes, uint64_t len)
{
	uint64_t at = (uint64_t)(bytes - m->ram.host);

	for (uint64_t p = at / RAM_PAGE; m->ram.written && p <= (at + len - 1) / RAM_PAGE; p++)
		atomic_fetch_or(&m->ram.written[p / 64], UINT64_C(1) << (p % 64));
}

int machine_change_region(struct machine *m, unsigned i, gpa_t base, uint8_t *host, bool readonly, struct err *err)
{
	const struct guest_region *r = &m->mem.regions[i];
	int rc = 0;

	scoped_lock(&m->regions);
	if (r->base == base && r->host == host && r->readonly == readonly)
		return 0;
	machine_mark_written(m, r->host, r->size);
	if (m->vm.fd >= 0)
		rc = vm_remove_region(&m->vm, &m->mem, i, err);
	if (rc == 0)
		rc = guest_mem_change(&m->mem, i, base, host, readonly, err);
	if (rc == 0 && m->vm.fd >= 0)
		rc = vm_add_region(&m->vm, &m->mem, i, err);
	return rc;
}

int machine_log(struct machine *m, bool on, struct err *err)
{
	scoped_lock(&m->regions);
	return vm_log(&m->vm, &m->mem, on, err);
}
