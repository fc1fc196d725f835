// The storage of a site that joins: formatted when it is empty, taken over when an earlier attempt
// to add the same site was cut off.
//
// `site add` writes the marker first and enters the site in the records second. Cut off in between,
// it leaves a marker with a number that the records never gave to this site; when another site has
// joined meanwhile, that number is even another's. Such a marker is replaced when all of this
// holds: it names this cloud and this very site, no site of the cloud has its number and its name,
// and the storage holds no object. Whatever else carries a marker is left alone.
#pragma once

#include "common/config/config.h"
#include "common/proto/records.pb.h"
#include "common/store/object_store.h"

namespace datacloud {

// Afterwards the storage carries `wanted`. `cloud`: its sites as the daemon knows them. exists: it
// is another's; invalid: it holds objects, or is not empty. May be repeated after any interruption.
result<void> prepare_storage(const SiteConfig&, const SiteMarker& wanted, const pb::Cloud& cloud);

}  // namespace datacloud
