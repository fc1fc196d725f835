// `datacloud audit`: every site proves what it holds.
#include <fmt/format.h>

#include <cmath>

#include "tools/daemon_link.h"
#include "tools/exit_codes.h"
#include "tools/json_text.h"
#include "tools/mounted_path.h"
#include "tools/progress.h"
#include "tools/terminal.h"

namespace datacloud {
namespace {

std::string site_name(const pb::AuditReply& reply, uint32_t id) {
  for (const auto& site : reply.sites()) {
    if (site.id() == id) return site.name();
  }
  return fmt::format("site {}", id);
}

// Shards that must be looked at so that damage of this share is met with this confidence.
uint64_t samples_for(double confidence, double damage) {
  return static_cast<uint64_t>(std::ceil(std::log1p(-confidence) / std::log1p(-damage)));
}

result<pb::AuditReply> run_to_its_end(const CommandContext& context, const AuditOptions& options) {
  TRY(auto link, connect_to_daemon(context));
  pb::Request request;
  auto* audit = request.mutable_audit();
  for (const auto& path : options.paths) {
    TRY(const auto inode, mounted_inode(path));
    if (inode) {
      audit->add_inodes(*inode);
    } else {
      audit->add_paths(path.starts_with('/') ? path : "/" + path);
    }
  }
  audit->set_shard_samples(options.samples);
  if (options.confidence > 0) {
    audit->set_shard_samples(samples_for(options.confidence, options.damage));
  }
  audit->set_block_samples(options.blocks);
  TRY(auto reply, link.call(std::move(request)));
  Progress progress(context.json);
  PollPause pause;
  while (!reply.audit().done()) {
    const auto& now = reply.audit();
    progress.show(now.stripes_done(), now.stripes_total(),
                  fmt::format("{} of {} stripes, {} shards, {} bad", now.stripes_done(),
                              now.stripes_total(), now.shards_checked(), now.bad_total()));
    pause.sleep();
    pb::Request again;
    again.mutable_audit()->set_run(reply.audit().run());
    TRY(reply, link.call(std::move(again)));
  }
  return std::move(*reply.mutable_audit());
}

Json audit_json(const pb::AuditReply& audit) {
  Json bad = Json::array(), doubts = Json::array();
  for (const auto& finding : audit.bad()) {
    bad.push_back({{"stripe", finding.stripe()},
                   {"column", finding.column()},
                   {"site", site_name(audit, finding.site())},
                   {"reason", finding.reason()},
                   {"detail", finding.detail()}});
  }
  for (const auto& text : audit.doubts()) doubts.push_back(text);
  return {{"shards_checked", audit.shards_checked()},
          {"bytes_covered", audit.bytes_covered()},
          {"bytes_transferred", audit.bytes_transferred()},
          {"read_remotely", audit.read_remotely()},
          {"bad_total", audit.bad_total()},
          {"bad", std::move(bad)},
          {"doubts", std::move(doubts)},
          {"failures", audit.failures()}};
}

std::string audit_text(const pb::AuditReply& audit) {
  std::string out =
      fmt::format("{} shards of {} stripes asked for {}: {} between sites ({:.3f} %), {} bad\n",
                  audit.shards_checked(), audit.stripes_done(), human_bytes(audit.bytes_covered()),
                  human_bytes(audit.bytes_transferred()),
                  100.0 * double(audit.bytes_transferred()) /
                      double(std::max<uint64_t>(1, audit.bytes_covered())),
                  audit.bad_total());
  if (audit.read_remotely() > 0) {
    out += fmt::format(
        "{} shards were read as a whole: their sites cannot compute answers "
        "(directories, or OSDs without the class), which costs traffic\n",
        audit.read_remotely());
  }
  for (const auto& finding : audit.bad()) {
    out += fmt::format("  stripe {} column {} at site {}: {}{}{}\n", finding.stripe(),
                       finding.column(), site_name(audit, finding.site()), finding.reason(),
                       finding.detail().empty() ? "" : ": ", printable(finding.detail()));
  }
  for (const auto& text : audit.doubts()) out += printable(text) + "\n";
  if (audit.bad_total() > 0)
    out += "the findings are being repaired: see `datacloud repair --wait`\n";
  if (audit.failures() > 0) {
    out += fmt::format("{} stripes could not be checked: {}\n", audit.failures(),
                       printable(audit.last_failure()));
  }
  return out;
}

}  // namespace

int run_audit(const CommandContext& context, const AuditOptions& options) {
  if (options.confidence < 0 || options.confidence >= 1 || options.damage <= 0 ||
      options.damage >= 1) {
    fmt::print(stderr, "datacloud: --confidence and --damage are between 0 and 1\n");
    return kExitUsage;
  }
  const auto audit = run_to_its_end(context, options);
  if (!audit) return report_failure(audit.error());
  fmt::print("{}", context.json ? json_text(audit_json(audit.value())) : audit_text(audit.value()));
  return audit.value().failures() > 0 ? kExitFailed : kExitOk;
}

}  // namespace datacloud
