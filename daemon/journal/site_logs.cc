// Opens and makes the logs of sites (site_logs.h).
#include "daemon/journal/site_logs.h"

#include <fmt/format.h>

#include <filesystem>
#include <utility>

#include "common/site/site_set.h"
#include "common/store/rados/rados_guarded.h"
#include "common/store/remote/site_credentials.h"
#include "daemon/journal/directory_log.h"
#include "daemon/journal/guarded_log.h"
#include "daemon/journal/served_log.h"

namespace datacloud::journal {
namespace {

std::string log_directory(const SiteConfig& site) { return (site.path / "journal").string(); }

class AbsentLog final : public LogStore {
 public:
  explicit AbsentLog(std::string reason) : reason_(std::move(reason)) {}
  result<LogHead> head() override { return failure(away()); }
  result<LogHead> claim(const Epoch&) override { return failure(away()); }
  result<void> begin(const Epoch&, const LogPosition&, Base) override { return failure(away()); }
  void append(const Epoch&, LogBatch, Done done) override { done(failure(away())); }
  result<LogHead> settle(const Epoch&) override { return failure(away()); }
  result<std::vector<LogEntry>> read(uint64_t, size_t) override { return failure(away()); }
  result<void> trim(const Epoch&, uint64_t) override { return failure(away()); }
  result<void> seal(const Epoch&) override { return failure(away()); }

 private:
  Error away() const { return Error(Errc::away, reason_); }
  const std::string reason_;
};

DirectoryLogOptions directory_options(const SiteConfig& site, const JournalId& journal,
                                      uint64_t segment_bytes) {
  return {.directory = log_directory(site), .journal = journal, .segment_bytes = segment_bytes};
}

RemoteStoreOptions served_options(const SiteConfig& site, const SiteMarker& marker) {
  RemoteStoreOptions options;
  options.site = site.name;
  options.address = site.address;
  options.expected = marker;
  if (site.window_bytes) options.window_bytes = static_cast<size_t>(*site.window_bytes);
  options.context = [site] { return site_client_context(site); };
  return options;
}

// The folder must be this site's: an empty mount point is none.
result<void> format_directory(const SiteConfig& site, const SiteMarker& marker,
                              const JournalId& journal, uint64_t segment_bytes) {
  TRY(const auto found, read_store_marker(site));
  if (!(found == marker)) {
    return failure(Errc::invalid, fmt::format("site {} at {} is site {} of cloud {}", site.name,
                                              site.path.string(), found.site_id, found.cloud_name));
  }
  const auto options = directory_options(site, journal, segment_bytes);
  if (auto made = options.files->make_directory(options.directory);
      !made && made.error().errno_value() != EEXIST) {
    return made;
  }
  TRY(options.files->sync_directory(site.path.string()));
  return format_directory_log(options);
}

}  // namespace

result<void> check_holds_journal(const SiteConfig& site) {
  if (site.store == "directory" || site.store == "rados" || site.store == "remote") {
    return success();
  }
  return failure(Errc::unsupported,
                 fmt::format("site {} ({}) cannot hold the journal: only directories, served sites "
                             "and Ceph pools can",
                             site.name, site.store));
}

result<std::unique_ptr<LogStore>> open_site_log(const SiteConfig& site, const SiteMarker& marker,
                                                const JournalId& journal, uint64_t segment_bytes) {
  TRY(check_holds_journal(site));
  if (site.store == "remote") return make_served_log(served_options(site, marker), journal);
  if (site.store == "rados") {
    return make_guarded_log(make_rados_guarded(rados_options(site, marker)),
                            {.journal = journal, .segment_bytes = segment_bytes});
  }
  return make_directory_log(directory_options(site, journal, segment_bytes));
}

result<void> format_site_log(const SiteConfig& site, const SiteMarker& marker,
                             const JournalId& journal, uint64_t segment_bytes) {
  TRY(check_holds_journal(site));
  auto made = [&]() -> result<void> {
    if (site.store == "remote") return format_served_log(served_options(site, marker), journal);
    if (site.store != "rados") return format_directory(site, marker, journal, segment_bytes);
    const auto objects = make_rados_guarded(rados_options(site, marker));
    return format_guarded_log(*objects, {.journal = journal, .segment_bytes = segment_bytes});
  }();
  if (made) return success();
  if (!made.error().is(Errc::exists)) {
    return failure(made.error().in("the journal at site " + site.name));
  }
  TRY(const auto log, open_site_log(site, marker, journal, segment_bytes));
  TRY(const auto head, log->head());
  if (head.last.sequence == 0) return success();
  return failure(
      Errc::exists,
      fmt::format("site {} holds a journal with entries up to {}: the cloud has had one, "
                  "and the daemon's metadata is from before; put it back with `datacloud "
                  "recover`",
                  site.name, head.last.sequence));
}

std::unique_ptr<LogStore> make_absent_log(std::string reason) {
  return std::make_unique<AbsentLog>(std::move(reason));
}

bool has_journal_entries(const SiteConfig& site, const JournalId& journal) {
  std::error_code ec;
  if (site.store != "directory" || !std::filesystem::exists(log_directory(site), ec)) return false;
  const auto head = make_directory_log(directory_options(site, journal, 0))->head();
  return head && head.value().last.sequence > 0;
}

bool undo_site_log(const SiteConfig& site) {
  if (site.store != "directory") return false;
  std::error_code ec;
  std::filesystem::remove_all(log_directory(site), ec);
  return !ec;
}

}  // namespace datacloud::journal
