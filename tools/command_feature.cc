// `datacloud feature`: what the cloud uses beyond format 1, and switching it on.
#include <fmt/format.h>

#include "tools/admin_call.h"
#include "tools/commands.h"
#include "tools/exit_codes.h"
#include "tools/json_text.h"
#include "tools/reports.h"
#include "tools/terminal.h"

namespace datacloud {
namespace {

result<pb::FeatureReply> ask(const CommandContext& context, const pb::FeatureRequest& wanted) {
  TRY(auto link, connect_to_daemon(context));
  pb::AdminRequest request;
  *request.mutable_feature() = wanted;
  TRY(auto reply, call_admin(link, request));
  return std::move(*reply.mutable_feature());
}

Json json_of(const pb::FeatureReply& reply) {
  Json list = Json::array();
  for (const auto& feature : reply.features()) {
    list.push_back({{"name", feature.name()},
                    {"enabled", feature.since() != 0},
                    {"since_sequence", feature.since() != 0 ? Json(feature.since()) : Json()},
                    {"version", feature.version()},
                    {"what", feature.what()},
                    {"obstacles", Json(std::vector<std::string>(feature.obstacles().begin(),
                                                                feature.obstacles().end()))}});
  }
  return {{"features", std::move(list)}};
}

int tell(const CommandContext& context, const result<pb::FeatureReply>& reply) {
  if (!reply) return report_failure(reply.error());
  if (context.json) {
    fmt::print("{}", json_text(json_of(reply.value())));
    return kExitOk;
  }
  Table table({{"FEATURE"}, {"IN USE"}, {"NEEDS"}, {"PERMITS"}});
  for (const auto& feature : reply.value().features()) {
    table.add({feature.name(), feature.since() != 0 ? "yes" : "no", feature.version(),
               printable(feature.what())});
  }
  fmt::print("{}", table.text(colour_wanted()));
  for (const auto& feature : reply.value().features()) {
    for (const auto& obstacle : feature.obstacles()) {
      fmt::print("{} has to wait for {}\n", feature.name(), printable(obstacle));
    }
  }
  return kExitOk;
}

}  // namespace

result<void> enable_feature(const CommandContext& context, const std::string& name) {
  pb::FeatureRequest request;
  request.add_enable(name);
  TRY(const auto reply, ask(context, request));
  for (const auto& feature : reply.features()) {
    if (feature.name() == name && feature.since() != 0) return success();
  }
  return failure(Errc::unsupported, "feature " + name + " has to wait for programs that know it");
}

int run_feature_list(const CommandContext& context) { return tell(context, ask(context, {})); }

int run_feature_enable(const CommandContext& context, const std::vector<std::string>& names,
                       bool all) {
  if (names.empty() && !all) {
    (void)report_failure(Error(
        Errc::invalid, "no feature is named: NAME as `datacloud feature list` shows, or --all"));
    return kExitUsage;
  }
  pb::FeatureRequest request;
  for (const auto& name : names) request.add_enable(name);
  request.set_all(all);
  return tell(context, ask(context, request));
}

}  // namespace datacloud
