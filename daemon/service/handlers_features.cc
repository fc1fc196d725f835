// The features of the cloud: which mounts may connect, and how features are switched on.
#include <fmt/format.h>

#include <algorithm>

#include "common/base/log.h"
#include "common/proto/admin.pb.h"
#include "daemon/records/cloud_features.h"
#include "daemon/service/service.h"

namespace datacloud {
namespace {

bool knows(const pb::Session& session, std::string_view name) {
  return std::find(session.features().begin(), session.features().end(), name) !=
         session.features().end();
}

}  // namespace

result<void> MetadataService::load_features(const Transaction& txn) {
  TRY(feature_record_, read_features(txn));
  TRY(features_, known_set(feature_record_));
  return success();
}

std::vector<std::string> MetadataService::sessions_without(const KnownFeature& feature) const {
  std::vector<std::string> out;
  if (feature.daemon_only) return out;
  for (const auto& [id, session] : sessions_.all()) {
    if (session->tool() || knows(session->record, feature.name)) continue;
    out.push_back(
        fmt::format("{}: its program (version {}) does not know it; install version {} "
                    "there and mount again",
                    session->describe(), session->record.version(), feature.version));
  }
  return out;
}

std::optional<Error> MetadataService::lacks_feature(const pb::Session& session) const {
  const pb::Features needed = features_of_mounts(feature_record_);
  for (const auto& feature : needed.features()) {
    if (knows(session, feature.name())) continue;
    return Error(Errc::unsupported,
                 fmt::format("the cloud uses \"{}\", which this mount (version {}) does not know; "
                             "install version {} or later on this node",
                             feature.name(), session.version(), feature.version()));
  }
  return std::nullopt;
}

// Bytes of files are kept in the records only where these are at a quorum of the sites.
bool MetadataService::lacks_journal(const KnownFeature& feature) const {
  return feature.feature == Feature::inline_data && !features_.has(Feature::journal);
}

// All that are asked for are switched on, or none.
Answer MetadataService::feature(const CallPtr& call, const pb::FeatureRequest& request) {
  std::vector<const KnownFeature*> wanted;
  for (const auto& name : request.enable()) {
    const KnownFeature* known = find_feature(name);
    if (known == nullptr) {
      return failure(Errc::not_found,
                     fmt::format("the daemon (version {}) knows no feature \"{}\"; `datacloud "
                                 "feature list` shows those it knows",
                                 DATACLOUD_VERSION, name));
    }
    if (!known->command.empty() && !features_.has(known->feature)) {
      return failure(Errc::invalid,
                     fmt::format("\"{}\" is switched on by `{}`", name, known->command));
    }
    if (lacks_journal(*known)) {
      return failure(Errc::invalid,
                     fmt::format("\"{}\" needs the feature \"journal\", without which what fsync "
                                 "has stored would be on the daemon's disk alone; switch it on "
                                 "with `{}`",
                                 known->name, describe(Feature::journal).command));
    }
    wanted.push_back(known);
  }
  if (request.all()) {
    for (const auto& known : known_features())
      if (known.command.empty() && !lacks_journal(known)) wanted.push_back(&known);
  }
  Transaction txn = store_.begin();
  for (const KnownFeature* known : wanted) {
    if (features_.has(known->feature)) continue;
    if (const auto without = sessions_without(*known); !without.empty()) {
      return failure(
          Errc::unavailable,
          fmt::format(
              "\"{}\" cannot be switched on while {}{}", known->name, without[0],
              without.size() > 1 ? fmt::format("; and {} more mounts", without.size() - 1) : ""));
    }
    TRY(const bool changed, enable_feature(txn, known->feature, store_.sequence() + 1));
    if (changed) spdlog::info("the cloud uses \"{}\" from now on", known->name);
  }
  const bool changes = !txn.empty();
  if (changes) {
    TRY(committer_.apply(std::move(txn)));
    TRY(load_features(store_.begin()));
    deps_.cloud.set_format_version(kMetadataFormatFeatures);
  }
  pb::AdminReply admin;
  for (const auto& known : known_features()) {
    if (!known.command.empty() && !features_.has(known.feature)) continue;
    auto* state = admin.mutable_feature()->add_features();
    state->set_name(std::string(known.name));
    state->set_version(std::string(known.version));
    state->set_what(std::string(known.what));
    for (const auto& on : feature_record_.features()) {
      if (on.name() == known.name) state->set_since(on.since());
    }
    if (state->since() != 0) continue;
    if (lacks_journal(known)) {
      state->add_obstacles(
          fmt::format("the cloud has no journal: `{}`", describe(Feature::journal).command));
    }
    for (auto& text : sessions_without(known)) state->add_obstacles(std::move(text));
  }
  if (!changes) return std::optional(wrapped(admin));
  answer_when_durable(call, wrapped(admin));
  return later();
}

}  // namespace datacloud
