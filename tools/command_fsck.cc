// `datacloud fsck`, also as fsck.datacloud: records against each other, sites against the records;
// with --deep every shard is proven. Exit codes as fsck(8) says.
#include <fmt/format.h>
#include <unistd.h>

#include <iostream>

#include "daemon/fsck.h"
#include "daemon/record_keys.h"
#include "daemon/state_directory.h"
#include "tools/admin_call.h"
#include "tools/exit_codes.h"
#include "tools/json_text.h"
#include "tools/progress.h"
#include "tools/repair_wait.h"
#include "tools/terminal.h"

namespace datacloud {
namespace {

struct Checked {
  pb::FsckReply reply;
  bool online = false;
  uint64_t shards_bad = 0;  // by --deep
  uint64_t shards_repaired = 0, stripes_left = 0;
};

// A daemon serves the cloud: it checks, and goes on serving.
result<void> check_online(DaemonLink& link, bool repair, Checked& checked) {
  pb::AdminRequest request;
  request.mutable_fsck()->set_repair(repair);
  request.mutable_fsck()->set_sites(true);
  TRY(auto reply, call_admin(link, request));
  PollPause pause;
  while (!reply.fsck().done()) {
    pause.sleep();
    pb::AdminRequest again;
    again.mutable_fsck()->set_run(reply.fsck().run());
    TRY(reply, call_admin(link, again));
  }
  checked.reply = std::move(*reply.mutable_fsck());
  checked.online = true;
  return success();
}

// Nobody serves it: the store is opened here, and sites are left alone.
result<void> check_offline(const Config& config, bool repair, Checked& checked) {
  MetadataStore::Options options;
  options.directory = metadata_directory(config.daemon).string();
  TRY(auto store, MetadataStore::open(std::move(options)));
  Transaction txn = store->begin();
  TRY(const auto counter, txn.get(key::meta("next_id/inode")));
  const InodeId next = counter && counter->size() == 8 ? key::u64_at(*counter, 0) : 0;
  if (next == 0) return failure(Errc::corrupt, "the counter of inode ids is missing");
  TRY(fsck_metadata(txn, repair, checked.reply, [&] {
    txn.put(key::meta("next_id/inode"), key::inode(next + 1).substr(1));
    return next;
  }));
  if (repair && !txn.empty()) {
    TRY(store->commit(std::move(txn)));
    TRY(store->wait_durable(store->sequence()));
  }
  return success();
}

result<uint64_t> prove_everything(DaemonLink& link) {
  pb::Request request;
  request.mutable_audit();
  TRY(auto reply, link.call(std::move(request)));
  PollPause pause;
  while (!reply.audit().done()) {
    pause.sleep();
    pb::Request again;
    again.mutable_audit()->set_run(reply.audit().run());
    TRY(reply, link.call(std::move(again)));
  }
  return reply.audit().bad_total();
}

result<Checked> check(const CommandContext& context, bool repair, bool deep) {
  TRY(const auto config, load_config(context.config));
  Checked checked;
  auto link = connect_to_daemon(context, std::chrono::hours(1));
  if (!link) {
    if (!link.error().is(Errc::unavailable)) return failure(link.error());
    TRY(check_offline(config, repair, checked));
    if (deep) {
      return failure(Errc::unavailable, "--deep needs the daemon: start datacloudd");
    }
    return checked;
  }
  TRY(check_online(link.value(), repair, checked));
  if (deep) {
    TRY(checked.shards_bad, prove_everything(link.value()));
  }
  if (repair) {
    TRY(const auto done, wait_for_repairs(link.value(), 0, context.json));
    checked.shards_repaired = done.lines.size();
    checked.stripes_left = done.last.queued();
  }
  return checked;
}

int exit_code(const Checked& checked, bool repair) {
  const auto& reply = checked.reply;
  if (!reply.failure().empty() && !repair) return kFsckOperational;
  const uint64_t found = reply.findings_total() + checked.shards_bad;
  if (found == 0) return kFsckClean;
  const bool left = !repair || reply.mended_total() < reply.findings_total() ||
                    checked.stripes_left > 0 || !reply.failure().empty();
  return left ? kFsckLeft : kFsckCorrected;
}

void tell(const CommandContext& context, const Checked& checked, int code) {
  const auto& reply = checked.reply;
  if (context.json) {
    Json findings = Json::array();
    for (const auto& finding : reply.findings()) {
      findings.push_back({{"kind", finding.kind()},
                          {"text", finding.text()},
                          {"action", finding.action()},
                          {"mended", finding.mended()}});
    }
    fmt::print("{}", json_text({{"online", checked.online},
                                {"records_checked", reply.records_checked()},
                                {"objects_checked", reply.objects_checked()},
                                {"findings_total", reply.findings_total()},
                                {"mended_total", reply.mended_total()},
                                {"shards_bad", checked.shards_bad},
                                {"shards_repaired", checked.shards_repaired},
                                {"stripes_left", checked.stripes_left},
                                {"failure", reply.failure()},
                                {"findings", std::move(findings)},
                                {"exit_code", code}}));
    return;
  }
  for (const auto& finding : reply.findings()) {
    fmt::print("{}: {}{}\n", finding.kind(), printable(finding.text()),
               finding.action().empty()
                   ? std::string(": nothing mends this without losing something")
                   : (finding.mended() ? ": mended: " : ": would be mended: ") + finding.action());
  }
  if (checked.shards_bad > 0)
    fmt::print("{} shards are not what was written\n", checked.shards_bad);
  if (!reply.failure().empty()) fmt::print("{}\n", printable(reply.failure()));
  fmt::print(
      "{} records and {} objects checked {}: {} findings, {} mended{}\n", reply.records_checked(),
      reply.objects_checked(),
      checked.online ? "while the daemon serves" : "without a daemon (no site was looked at)",
      reply.findings_total() + checked.shards_bad, reply.mended_total(),
      checked.stripes_left > 0
          ? fmt::format(", {} stripes wait for their sites", checked.stripes_left)
          : std::string());
}

bool confirmed() {
  if (!::isatty(STDIN_FILENO)) return false;
  fmt::print("Mend this? [y/N] ");
  std::string answer;
  return std::getline(std::cin, answer) && (answer == "y" || answer == "yes");
}

}  // namespace

int run_fsck(const CommandContext& context, const FsckOptions& options) {
  auto checked = check(context, options.yes, options.deep);
  if (checked && !options.yes && !options.no && checked.value().reply.findings_total() > 0) {
    tell(context, checked.value(), kFsckLeft);
    if (!confirmed()) return kFsckLeft;
    checked = check(context, true, false);
  }
  if (!checked) {
    (void)report_failure(checked.error());
    return kFsckOperational;
  }
  const int code = exit_code(checked.value(), !options.no);
  tell(context, checked.value(), code);
  return code;
}

}  // namespace datacloud
