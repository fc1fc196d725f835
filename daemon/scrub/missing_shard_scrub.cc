// One site at a time, on one background thread.
#include "daemon/scrub/missing_shard_scrub.h"

#include <fmt/format.h>

#include "common/base/log.h"

namespace datacloud {
namespace {

constexpr size_t kPage = 4096;
constexpr uint64_t kNameBytes = 40;  // of an answer
constexpr auto kDeadline = seconds(30);

}  // namespace

bool MissingShardScrub::start(SiteId only, std::function<void()> done) {
  return begin(only, std::move(done), nullptr);
}

bool MissingShardScrub::look_only(std::function<void()> done, Told told) {
  return begin(0, std::move(done), std::move(told));
}

bool MissingShardScrub::begin(SiteId only, std::function<void()> done, Told told) {
  if (progress_->running.exchange(true)) return false;
  told_ = std::move(told);
  progress_->shards_checked = progress_->missing = 0;
  progress_->sites_done = progress_->sites_skipped = 0;
  context_.threads.submit([this, only, done = std::move(done)] {
    run(only);
    // At once: who sees it ended must see what it has found being repaired.
    (void)context_.threads.on_loop<void>([progress = progress_, done]() -> result<void> {
      progress->running = false;
      done();
      return success();
    });
  });
  return true;
}

void MissingShardScrub::run(SiteId only) {
  for (Site* site : context_.sites.all()) {
    if (only != 0 && site->id() != only) continue;
    if (!site->up()) {
      ++progress_->sites_skipped;
      continue;
    }
    const auto scrubbed = scrub_site(*site);
    if (context_.threads.stopping()) return;
    if (!scrubbed) {
      spdlog::warn("looking for missing shards at site {}: {}", site->name(),
                   scrubbed.error().message());
      ++progress_->sites_skipped;
    } else {
      ++progress_->sites_done;
    }
  }
}

result<void> MissingShardScrub::scrub_site(Site& site) {
  const auto path = directory_ / fmt::format("asked-{}.names", site.id());
  TRY(auto names, ListedNames::create(make_posix_file_layer(), path));
  auto scrubbed = list_names(site, names);
  MissingShardFinder missing(context_, site, {}, [this](const std::vector<pb::Damage>& found) {
    progress_->missing += found.size();
    if (!told_) return record_missing(context_, found);
    told_(found);
    return result<void>(success());
  });
  if (scrubbed) scrubbed = missing.look_up(names, progress_->shards_checked);
  TRY(names.remove());
  return scrubbed;
}

result<void> MissingShardScrub::list_names(Site& site, ListedNames& names) const {
  std::string from;
  do {
    TRY(auto page, wait_for<ListReply>([&](Callback<ListReply> done) {
          site.store().list(from, kPage, {monotonic_now() + kDeadline, Purpose::repair},
                            std::move(done));
        }));
    context_.threads.spend(site.id(), page.names.size() * kNameBytes);
    TRY(names.add(page.names));
    from = page.next;
    if (context_.threads.stopping()) return failure(Errc::unavailable, "the daemon is stopping");
  } while (!from.empty());
  return success();
}

}  // namespace datacloud
