#include "common/base/features.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/base/check.h"

namespace datacloud {
namespace {

constexpr KnownFeature kFeatures[] = {
    {Feature::file_flags, "file-flags", "0.2.0",
     "flags of files and directories (chattr +i and +a), kept by the daemon"},
    {Feature::inline_data, "inline", "0.2.0",
     "fsync of little data in one round trip: it is kept in the metadata, then goes into stripes"},
    {Feature::journal, "journal", "0.2.0",
     "metadata replicated to a quorum of the sites, from which it can be rebuilt",
     "datacloud journal enable", true},
    {Feature::posix_acl, "posix-acl", "0.2.0",
     "POSIX ACLs (setfacl), access and default ones, kept by the daemon"},
    {Feature::reservations, "reservations", "0.2.0",
     "fallocate: space reserved for files, holes punched into them, ranges set to zero"},
    {Feature::shared_slots, "shared-slots", "0.2.0",
     "clones: copies of whole files and ranges that share their blocks until either is changed"},
    {Feature::times, "times", "0.2.0",
     "times from 1901 to 2446, as ext4 holds them, and times of creation"},
    {Feature::trees, "trees", "0.2.0",
     "directories declared as trees, with counters and borders of their own"},
};

}  // namespace

std::span<const KnownFeature> known_features() { return kFeatures; }

const KnownFeature* find_feature(std::string_view name) {
  const auto* it = std::find_if(std::begin(kFeatures), std::end(kFeatures),
                                [&](const KnownFeature& known) { return known.name == name; });
  return it != std::end(kFeatures) ? it : nullptr;
}

const KnownFeature& describe(Feature feature) {
  const auto* it =
      std::find_if(std::begin(kFeatures), std::end(kFeatures),
                   [&](const KnownFeature& known) { return known.feature == feature; });
  DC_CHECK(it != std::end(kFeatures));
  return *it;
}

result<void> FeatureSet::add_named(std::string_view name, std::string_view version) {
  const KnownFeature* known = find_feature(name);
  if (known == nullptr) {
    return failure(Errc::unsupported,
                   fmt::format("the cloud uses \"{}\", which this program (version {}) does not "
                               "know; install version {} or later",
                               name, DATACLOUD_VERSION, version));
  }
  add(known->feature);
  return success();
}

}  // namespace datacloud
