// See recovery_sites.h.
#include "daemon/checkpoint/recovery_sites.h"

#include <fmt/format.h>

#include <future>
#include <optional>
#include <utility>

#include "daemon/journal/entry_sealer.h"
#include "daemon/journal/site_logs.h"
#include "daemon/metadata/journal_records.h"

namespace datacloud {
namespace {

constexpr uint64_t kAnySegmentBytes = 16u << 20;  // for segments that are made: none is
constexpr auto kFirstLook = seconds(10);

struct Opened {
  RecoverySource source;
  std::optional<SiteMarker> marker;
  std::unique_ptr<ObjectStore> store;
};

Opened open_site(const SiteConfig& site, const std::string& uuid, const journal::JournalId& id) {
  Opened opened;
  opened.source.name = site.name;
  const auto cannot = [&](std::string why) {
    opened.source.obstacle = std::move(why);
    return std::move(opened);
  };
  auto marker = read_store_marker(site, uuid);
  if (!marker) return cannot(marker.error().message());
  if (marker.value().cloud_uuid != uuid) {
    return cannot(fmt::format("it is a site of cloud {} ({})", marker.value().cloud_name,
                              marker.value().cloud_uuid));
  }
  opened.source.site = marker.value().site_id;
  auto store = open_store(site, marker.value());
  if (!store) return cannot(store.error().message());
  opened.store = std::move(store).value();
  auto log = journal::open_site_log(site, marker.value(), id, kAnySegmentBytes);
  if (log) {
    opened.source.log = std::move(log).value();
  } else {
    opened.source.obstacle = log.error().text();
  }
  opened.marker = std::move(marker).value();
  return opened;
}

}  // namespace

result<RecoverySites> open_recovery_sites(const Config& config) {
  TRY(const auto key, read_key_file(config.keys.service, KeyFileKind::service));
  RecoverySites out;
  out.cloud_uuid = key.cloud_uuid;
  TRY(out.journal, journal_id(key.cloud_uuid));
  out.metadata_key = journal::derive_metadata_key(key.key, key.cloud_uuid);
  std::vector<std::future<Opened>> opening;
  for (const auto& site : config.sites) {
    opening.push_back(std::async(std::launch::async, [&site, &out] {
      return open_site(site, out.cloud_uuid, out.journal);
    }));
  }
  std::vector<SiteSet::Member> members;
  std::string reasons;
  for (auto& one : opening) {
    Opened opened = one.get();
    if (opened.store) {
      if (out.cloud_name.empty()) out.cloud_name = opened.marker->cloud_name;
      members.push_back({opened.source.site, opened.source.name, std::move(opened.store)});
    } else {
      reasons += fmt::format("\n  site {}: {}", opened.source.name, opened.source.obstacle);
    }
    out.sources.push_back(std::move(opened.source));
  }
  if (members.empty()) {
    return failure(
        Errc::invalid,
        fmt::format("{}: no site of the cloud of {} ({}) is there; correct the [[site]] "
                    "sections, or the key{}",
                    config.file.string(), config.keys.service.string(), out.cloud_uuid, reasons));
  }
  out.sites = std::make_unique<SiteSet>(std::move(members));
  out.sites->check_all(kFirstLook);
  return out;
}

}  // namespace datacloud
