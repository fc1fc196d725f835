#include "daemon/records/cloud_features.h"

#include <algorithm>

#include "daemon/metadata/record_keys.h"

namespace datacloud {
namespace {

constexpr char kRecord[] = "features";

}  // namespace

result<FeatureSet> known_set(const pb::Features& features) {
  FeatureSet set;
  for (const auto& feature : features.features()) {
    TRY(set.add_named(feature.name(), feature.version()));
  }
  return set;
}

bool includes(const pb::Features& features, Feature feature) {
  const std::string_view name = describe(feature).name;
  return std::any_of(features.features().begin(), features.features().end(),
                     [&](const pb::Feature& on) { return on.name() == name; });
}

pb::Features features_of_mounts(const pb::Features& features) {
  pb::Features out;
  for (const auto& on : features.features()) {
    const KnownFeature* known = find_feature(on.name());
    if (known == nullptr || !known->daemon_only) *out.add_features() = on;
  }
  return out;
}

result<pb::Features> read_features(const Transaction& txn) {
  pb::Features features;
  TRY(txn.get(key::meta(kRecord), features));
  return features;
}

result<bool> enable_feature(Transaction& txn, Feature feature, Sequence since) {
  TRY(auto features, read_features(txn));
  if (includes(features, feature)) return false;
  const KnownFeature& known = describe(feature);
  auto* added = features.add_features();
  added->set_name(std::string(known.name));
  added->set_version(std::string(known.version));
  added->set_since(since);
  txn.put(key::meta(kRecord), features);

  pb::Cloud cloud;
  TRY(const bool found, txn.get(key::meta("cloud"), cloud));
  if (!found) return failure(Errc::corrupt, "the cloud's record is gone; run datacloud fsck");
  if (cloud.format_version() != kMetadataFormatFeatures) {
    cloud.set_format_version(kMetadataFormatFeatures);
    txn.put(key::meta("cloud"), cloud);
  }
  return true;
}

}  // namespace datacloud
