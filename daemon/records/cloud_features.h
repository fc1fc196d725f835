// The record of the features a cloud uses: read at the daemon's start, changed only by
// `datacloud feature enable` and when a cloud is made.
//
// Threads: as the transaction's.
#pragma once

#include <string>

#include "common/base/features.h"
#include "common/proto/records.pb.h"
#include "daemon/metadata/metadata_store.h"

namespace datacloud {

// unsupported: the cloud uses a feature that this program does not know; the text names it and the
// version to install.
result<FeatureSet> known_set(const pb::Features&);
bool includes(const pb::Features&, Feature);
// Those that mounts have to know.
pb::Features features_of_mounts(const pb::Features&);
// The record; empty when there is none, as in a cloud of format 1.
result<pb::Features> read_features(const Transaction&);
// Switches the feature on as of `since`; false when it is on already. With the first one the
// cloud's format becomes 2, so that programs from before there were features refuse it.
result<bool> enable_feature(Transaction&, Feature, Sequence since);

}  // namespace datacloud
