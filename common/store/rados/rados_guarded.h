// Guarded objects (guarded_objects.h) in a pool of a Ceph cluster, replicated or erasure coded.
//
// Away, connections, time-outs (kRadosCallTimeout) and full clusters are as rados_store.h says: a
// call is let through only when the site's marker was verified lately, and FULL_TRY makes changes
// and removals go on in a full cluster as far as Ceph lets them.
#pragma once

#include <memory>

#include "common/store/guarded_objects.h"
#include "common/store/rados/rados_store.h"

namespace datacloud {

// Never fails and never waits: what is wrong makes the site away, with the reason.
std::unique_ptr<GuardedObjects> make_rados_guarded(RadosOptions);

}  // namespace datacloud
