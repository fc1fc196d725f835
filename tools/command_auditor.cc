// `datacloud auditor`: bundles for third parties, their reports, and the log of audits.
#include <fmt/format.h>

#include <fstream>

#include "common/audit/audit_bundle.h"
#include "common/base/hex.h"
#include "tools/admin_call.h"
#include "tools/audit/audit_report.h"
#include "tools/exit_codes.h"
#include "tools/json_text.h"
#include "tools/progress.h"
#include "tools/terminal.h"

namespace datacloud {
namespace {

constexpr size_t kKnownMax = 10'000;  // records of the old bundle told with each page

// The records of an older bundle, as fingerprints, a window at a time.
class Known {
 public:
  static result<Known> open(const std::string& path) {
    Known known;
    if (path.empty()) return known;
    known.file_ = std::make_unique<std::ifstream>(path, std::ios::binary);
    if (!*known.file_) {
      return failure(Error::posix(errno, "cannot open " + path));
    }
    TRY(known.base_, state_of(*known.file_));
    known.file_->clear();
    known.file_->seekg(0);
    TRY(auto reader, AuditBundleReader::open(*known.file_));
    if (!reader.header().base().empty()) {
      return failure(Errc::invalid, path + " is itself a refresh; name the whole bundle");
    }
    known.reader_ = std::move(reader);
    return known;
  }
  const std::string& base() const { return base_; }

  // Fills a request that begins at stripe `next`.
  result<void> tell(StripeId next, pb::AuditExportRequest& request) {
    while (!window_.empty() && window_.begin()->first < next) window_.erase(window_.begin());
    while (reader_ && window_.size() < kKnownMax) {
      TRY(const auto change, reader_->next());
      if (!change) {
        reader_.reset();
        break;
      }
      window_[change->stripe()] = audit_fingerprint(change->record());
    }
    for (const auto& [stripe, fingerprint] : window_) {
      auto* k = request.add_known();
      k->set_stripe(stripe);
      k->set_fingerprint(fingerprint);
    }
    request.set_known_through(reader_ ? window_.rbegin()->first : UINT64_MAX);
    return success();
  }

 private:
  static result<std::string> state_of(std::istream& in) {
    TRY(auto reader, AuditBundleReader::open(in));
    while (true) {
      TRY(const auto change, reader.next());
      if (!change) return reader.end().state();
    }
  }

  std::unique_ptr<std::ifstream> file_;
  std::optional<AuditBundleReader> reader_;
  std::string base_;
  std::map<StripeId, std::string> window_;
};

struct Exported {
  uint64_t stripes = 0, changes = 0, sequence = 0;
  std::string signer;
};

result<void> keep(const pb::AuditExportReply& page, AuditBundleWriter& out, Exported& told) {
  if (!page.header().empty()) {
    pb::AuditBundleFrame frame;
    frame.set_header(page.header());
    pb::AuditBundleHeader header;
    if (header.ParseFromString(page.header())) told.sequence = header.sequence();
    TRY(out.add(frame));
  }
  pb::AuditBundleFrame frame;
  if (!frame.mutable_page()->ParseFromString(page.changes())) {
    return failure(Errc::corrupt, "the daemon's answer does not parse");
  }
  told.changes += static_cast<uint64_t>(frame.page().changes_size());
  if (frame.page().changes_size() > 0) {
    TRY(out.add(frame));
  }
  if (page.end().empty()) return success();
  pb::AuditBundleFrame last;
  if (!last.mutable_end()->ParseFromString(page.end())) {
    return failure(Errc::corrupt, "the daemon's answer does not parse");
  }
  told.stripes = last.end().stripes();
  return out.add(last);
}

result<Exported> export_bundle(const CommandContext& context, const std::string& output,
                               const std::string& since) {
  TRY(auto known, Known::open(since));
  TRY(auto link, connect_to_daemon(context));
  TRY(auto out, AuditBundleWriter::create(output));
  Progress progress(context.json);
  Exported told;
  pb::AuditExportReply page;
  do {
    pb::AdminRequest request;
    auto* ask = request.mutable_audit_export();
    ask->set_run(page.run());
    ask->set_page(page.page() + 1);
    ask->set_base(known.base());
    TRY(known.tell(page.next(), *ask));
    TRY(auto reply, call_admin(link, request));
    page = std::move(*reply.mutable_audit_export());
    TRY(keep(page, *out, told));
    told.signer = to_hex(as_bytes(page.signer()));
    progress.show(page.stripes_done(), page.stripes_total(),
                  fmt::format("{} of {} stripes", page.stripes_done(), page.stripes_total()));
  } while (page.end().empty());
  TRY(out->finish());
  return told;
}

result<pb::AuditStandingReply> standing(const CommandContext& context, const ReportJson& report) {
  TRY(auto link, connect_to_daemon(context));
  pb::AdminRequest request;
  auto* ask = request.mutable_audit_standing();
  if (report.contains("findings")) {
    for (const auto& finding : report.at("findings")) {
      auto* shard = ask->add_shards();
      shard->set_stripe(finding.at("stripe").get<uint64_t>());
      shard->set_column(finding.at("column").get<uint32_t>());
      shard->set_instance(finding.at("instance").get<uint64_t>());
    }
  }
  TRY(auto reply, call_admin(link, request));
  return std::move(*reply.mutable_audit_standing());
}

}  // namespace

int run_auditor_export(const CommandContext& context, const std::string& output,
                       const std::string& since) {
  const auto done = export_bundle(context, output, since);
  if (!done) return report_failure(done.error());
  const auto& told = done.value();
  if (context.json) {
    fmt::print("{}", json_text({{"output", output},
                                {"sequence", told.sequence},
                                {"stripes", told.stripes},
                                {"records_written", told.changes},
                                {"signer", told.signer}}));
  } else {
    fmt::print("{}: {} stripes, {} records written; signer {}\n", output, told.stripes,
               told.changes, told.signer);
  }
  return kExitOk;
}

int run_auditor_signer(const CommandContext& context) {
  const auto reply = standing(context, ReportJson::object());
  if (!reply) return report_failure(reply.error());
  const std::string signer = to_hex(as_bytes(reply.value().signer()));
  fmt::print("{}", context.json ? json_text({{"signer", signer}}) : signer + "\n");
  return kExitOk;
}

int run_auditor_verify(const CommandContext& context, const std::string& path) {
  const auto text = read_text_file(path, kReportBytesMax);
  if (!text) return report_failure(text.error());
  const auto verified = verify_report(text.value());
  if (!verified) return report_failure(verified.error().in(path));
  const auto& report = verified.value().report;
  try {
    const auto reply = standing(context, report);
    if (!reply) return report_failure(reply.error());
    const auto& now = reply.value();
    if (report.at("cloud").at("uuid") != now.cloud_uuid()) {
      return report_failure(Error(Errc::invalid, path + " is about another cloud"));
    }
    const bool ours = report.at("bundle").at("signer") == to_hex(as_bytes(now.signer()));
    uint64_t standing_count = 0;
    std::string lines;
    Json findings = Json::array();
    for (int i = 0; i < now.standing_size(); ++i) {
      const auto& f = report.at("findings").at(static_cast<size_t>(i));
      const bool counts = now.standing(i) && f.at("reason") != "outdated";
      standing_count += counts;
      lines +=
          fmt::format("  stripe {} column {} at site {}: {}{}\n", f.at("stripe").get<uint64_t>(),
                      f.at("column").get<int>(), printable(f.at("site").get<std::string>()),
                      printable(f.at("reason").get<std::string>()),
                      counts ? "" : " (replaced since: no finding)");
      findings.push_back({{"stripe", f.at("stripe").get<uint64_t>()},
                          {"column", f.at("column").get<int>()},
                          {"site", f.at("site").get<std::string>()},
                          {"reason", f.at("reason").get<std::string>()},
                          {"standing", counts}});
    }
    if (context.json) {
      fmt::print("{}", json_text({{"valid", true},
                                  {"auditor", verified.value().auditor},
                                  {"bundle_of_this_cloud", ours},
                                  {"sequence", report.at("bundle").at("sequence").get<uint64_t>()},
                                  {"shards_checked", report.at("shards_checked").get<uint64_t>()},
                                  {"findings", std::move(findings)},
                                  {"standing", standing_count}}));
    } else {
      fmt::print("signed by auditor {}\n{}{} shards asked, {} findings, {} of them standing\n{}",
                 verified.value().auditor,
                 ours ? "" : "the bundle was NOT signed by this cloud's daemon\n",
                 report.at("shards_checked").get<uint64_t>(),
                 report.at("findings_total").get<uint64_t>(), standing_count, lines);
    }
    return ours ? kExitOk : kExitFailed;
  } catch (const ReportJson::exception& e) {
    return report_failure(
        Error(Errc::corrupt, fmt::format("{} is not a complete report: {}", path, e.what())));
  }
}

int run_auditor_history(const CommandContext& context) {
  auto link = connect_to_daemon(context);
  if (!link) return report_failure(link.error());
  pb::AdminRequest request;
  request.mutable_audit_log();
  const auto reply = call_admin(link.value(), request);
  if (!reply) return report_failure(reply.error());
  pb::AuditLog log;
  if (!log.ParseFromString(reply.value().audit_log().log())) {
    return report_failure(Error(Errc::corrupt, "the daemon's answer does not parse"));
  }
  std::map<uint32_t, std::string> names;
  for (const auto& site : reply.value().audit_log().sites()) names[site.id()] = site.name();
  Json list = Json::array();
  Table table({{"began"},
               {"ended"},
               {"audit"},
               {"site"},
               {"shards", Table::Align::right},
               {"missing", Table::Align::right},
               {"corrupt", Table::Align::right},
               {"stale", Table::Align::right},
               {"silent", Table::Align::right}});
  for (const auto& audit : log.audits()) {
    Json sites = Json::array();
    for (const auto& s : audit.sites()) {
      table.add({local_time(audit.started_ns()), local_time(audit.ended_ns()), audit.kind(),
                 names[s.site()], s.shards_checked(), s.missing(), s.corrupt(), s.stale(),
                 s.silent()});
      sites.push_back({{"site", names[s.site()]},
                       {"shards_checked", s.shards_checked()},
                       {"missing", s.missing()},
                       {"corrupt", s.corrupt()},
                       {"stale", s.stale()},
                       {"silent", s.silent()}});
    }
    list.push_back({{"started", audit.started_ns() / 1'000'000'000},
                    {"ended", audit.ended_ns() / 1'000'000'000},
                    {"audit", audit.kind()},
                    {"stripes", audit.stripes()},
                    {"bytes_covered", audit.bytes_covered()},
                    {"bytes_transferred", audit.bytes_transferred()},
                    {"failures", audit.failures()},
                    {"sites", std::move(sites)}});
  }
  fmt::print("{}",
             context.json ? json_text({{"audits", std::move(list)}}) : table.text(colour_wanted()));
  return kExitOk;
}

}  // namespace datacloud
