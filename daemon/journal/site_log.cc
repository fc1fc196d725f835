// Opening a configured site's part of the journal (site_log.h).
#include "daemon/journal/site_log.h"

#include <cerrno>
#include <string>
#include <system_error>
#include <utility>

#include "common/site/site_set.h"
#include "common/store/directory_layout.h"
#include "common/store/rados/rados_guarded.h"
#include "daemon/journal/directory_log.h"
#include "daemon/journal/guarded_log.h"

namespace datacloud::journal {
namespace {

auto no_journal_here(const SiteConfig& site) {
  return failure(Errc::unsupported, "site " + site.name + ": a site of kind \"" + site.store +
                                        "\" cannot hold the journal; directory and rados can");
}

DirectoryLogOptions directory_options(const SiteConfig& site, const JournalId& journal,
                                      uint64_t segment_bytes) {
  DirectoryLogOptions options;
  options.directory = (site.path / ".journal").lexically_normal().string();
  options.journal = journal;
  options.segment_bytes = segment_bytes;
  return options;
}

// A directory that is not mounted, or another site's, gets no journal.
result<void> check_directory_site(const SiteConfig& site, const SiteMarker& expected) {
  const auto found = read_store_marker(site, expected.cloud_uuid);
  if (found && found.value() == expected) return success();
  if (found) {
    return failure(Errc::away, "site " + site.name + ": " + site.path.string() + " is site \"" +
                                   found.value().site_name + "\" of cloud " +
                                   found.value().cloud_uuid);
  }
  if (!found.error().is(Errc::not_found)) return failure(found.error());
  return failure(Errc::away, found.error().text());
}

result<void> format_in_directory(const SiteConfig& site, const SiteMarker& expected,
                                 const JournalId& journal) {
  TRY(check_directory_site(site, expected));
  const auto options = directory_options(site, journal, kSegmentBytesDefault);
  auto made = options.files->make_directory(options.directory);
  if (!made && made.error().code() != std::error_code(EEXIST, std::generic_category())) return made;
  TRY(options.files->sync_directory(site.path.lexically_normal().string()));
  return format_directory_log(options);
}

}  // namespace

result<void> format_site_log(const SiteConfig& site, const SiteMarker& expected,
                             const JournalId& journal) {
  if (site.store == "memory") return success();
  if (site.store == "directory") {
    auto done = format_in_directory(site, expected, journal);
    if (!done) return failure(done.error().in("journal of site " + site.name));
    return done;
  }
  if (site.store == "rados") {
    const auto objects = make_rados_guarded(rados_options(site, expected));
    auto done = format_guarded_log(*objects, {journal, kSegmentBytesDefault});
    if (!done) return failure(done.error().in("journal of site " + site.name));
    return done;
  }
  return no_journal_here(site);
}

result<std::unique_ptr<LogStore>> open_site_log(const SiteConfig& site, const SiteMarker& expected,
                                                const JournalId& journal, uint64_t segment_bytes) {
  if (site.store == "memory") {
    auto objects = open_guarded_memory(make_guarded_memory());
    TRY(format_guarded_log(*objects, {journal, segment_bytes}));
    return make_guarded_log(std::move(objects), {journal, segment_bytes});
  }
  if (site.store == "directory") {
    return make_directory_log(directory_options(site, journal, segment_bytes));
  }
  if (site.store == "rados") {
    return make_guarded_log(make_rados_guarded(rados_options(site, expected)),
                            {journal, segment_bytes});
  }
  return no_journal_here(site);
}

}  // namespace datacloud::journal
