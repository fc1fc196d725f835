// What records use against the features the cloud says it uses. The other passes have noted what
// they met; where the list lacks it, the list is what is wrong: nobody writes such records without
// the feature, and programs that do not know it must be kept out.
#include <fmt/format.h>

#include "common/base/features.h"
#include "daemon/fsck/record_passes.h"
#include "daemon/records/cloud_features.h"

namespace datacloud {
namespace {

bool lists(const pb::Features& features, std::string_view name) {
  return std::any_of(features.features().begin(), features.features().end(),
                     [&](const pb::Feature& on) { return on.name() == name; });
}

class Features {
 public:
  explicit Features(RecordPasses& p) : p_(p) {}

  result<void> run() {
    const std::string k = key::meta("features");
    TRY(raw_, p_.view.get(k));
    if (raw_ && !parses(*raw_, features_)) {
      p_.add({.kind = "ids",
              .text = "the list of the cloud's features does not parse",
              .action = "it is erased; the next check lists what records use",
              .records = {{k, std::move(raw_), std::nullopt}},
              .offline_only = true});
      return success();
    }
    for (const auto& [name, use] : p_.uses) {
      if (lists(features_, name)) continue;
      TRY(tell(name, use));
    }
    return success();
  }

 private:
  result<void> tell(const std::string& name, const RecordPasses::Use& use) {
    Finding finding{
        .kind = "ids",
        .text = fmt::format(
            "{}{} the feature \"{}\", which is not switched on", use.first,
            use.records == 1 ? " needs" : fmt::format(" and {} more need", use.records - 1), name)};
    const KnownFeature* known = find_feature(name);
    pb::Cloud cloud;
    TRY(auto stored, p_.view.get(key::meta("cloud")));
    if (known != nullptr && stored && parses(*stored, cloud)) {
      TRY(const auto sequence, p_.view.get(key::meta("sequence")));
      pb::Features becomes = features_;
      auto* added = becomes.add_features();
      added->set_name(name);
      added->set_version(std::string(known->version));
      added->set_since(sequence && sequence->size() == 8 ? key::u64_at(*sequence, 0) + 1 : 1);
      cloud.set_format_version(kMetadataFormatFeatures);
      finding.action = "it is switched on";
      finding.offline_only = true;  // a running daemon has sessions that may not know it
      finding.records = {
          replaced(key::meta("features"), raw_, becomes.SerializeAsString()),
          replaced(key::meta("cloud"), std::move(stored), cloud.SerializeAsString())};
    }
    p_.add(std::move(finding));
    return success();
  }

  RecordPasses& p_;
  std::optional<std::string> raw_;
  pb::Features features_;
};

}  // namespace

result<void> check_features(RecordPasses& passes) { return Features(passes).run(); }

}  // namespace datacloud
