// One site at a time, on one background thread.
#include "daemon/missing_scrub.h"

#include <algorithm>
#include <charconv>

#include "common/log.h"
#include "daemon/block_map.h"
#include "daemon/fan_out.h"
#include "daemon/record_keys.h"

namespace datacloud {
namespace {

constexpr size_t kNamesMax = 8u << 20;  // 64 MiB
constexpr size_t kPage = 4096;
constexpr size_t kStripesPerStep = 1000;
constexpr size_t kConfirmed = 64;  // asked for at once
constexpr auto kDeadline = seconds(30);

// Names are 32 random-looking hex digits: their first half tells them apart.
uint64_t fingerprint(const std::string& name) {
  uint64_t value = 0;
  if (name.size() >= 16) std::from_chars(name.data(), name.data() + 16, value, 16);
  return value;
}

OpOptions options() { return {monotonic_now() + kDeadline, Purpose::repair}; }

}  // namespace

// The names of one part of a site, sorted.
struct MissingScrub::Names {
  uint64_t parts = 1, part = 0;
  std::vector<uint64_t> prints;

  bool covers(uint64_t print) const { return print % parts == part; }
  bool has(uint64_t print) const { return std::binary_search(prints.begin(), prints.end(), print); }
};

bool MissingScrub::start(SiteId only, std::function<void()> done) {
  return begin(only, std::move(done), nullptr);
}

bool MissingScrub::look_only(std::function<void()> done, Told told) {
  return begin(0, std::move(done), std::move(told));
}

bool MissingScrub::begin(SiteId only, std::function<void()> done, Told told) {
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

void MissingScrub::run(SiteId only) {
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

result<void> MissingScrub::scrub_site(Site& site) {
  Names names;
  while (names.part < names.parts) {
    TRY(const bool fits, list_names(site, names));
    if (!fits) {  // begins again with smaller parts
      names.parts *= 2;
      names.part = 0;
      continue;
    }
    TRY(look_up(site, names));
    ++names.part;
  }
  return success();
}

result<bool> MissingScrub::list_names(Site& site, Names& names) const {
  names.prints.clear();
  std::string from;
  do {
    TRY(auto page, wait_for<ListReply>([&](Callback<ListReply> done) {
          site.store().list(from, kPage, options(), std::move(done));
        }));
    context_.threads.spend(site.id(), page.names.size() * 40);
    for (const auto& name : page.names) {
      const uint64_t print = fingerprint(name);
      if (names.covers(print)) names.prints.push_back(print);
    }
    if (names.prints.size() > kNamesMax) return false;
    from = page.next;
    if (context_.threads.stopping()) return failure(Errc::unavailable, "the daemon is stopping");
  } while (!from.empty());
  std::sort(names.prints.begin(), names.prints.end());
  return true;
}

result<void> MissingScrub::look_up(Site& site, const Names& names) {
  StripeId from = 0;
  for (bool more = true; more;) {
    auto suspects = std::make_shared<std::vector<ShardName>>();
    TRY(more, context_.threads.on_loop<bool>([&]() -> result<bool> {
      size_t seen = 0;
      const std::string end = key::after_prefix(key::stripe(0).substr(0, 1));
      TRY(context_.store.begin().scan(
          key::stripe(from), end, [&](std::string_view, std::string_view v) {
            pb::Stripe stripe;
            if (!stripe.ParseFromArray(v.data(), static_cast<int>(v.size()))) return true;
            from = stripe.id() + 1;
            for (int c = 0; c < stripe.shards_size(); ++c) {
              const auto& shard = stripe.shards(c);
              if (shard.state() != pb::SHARD_PRESENT || shard.site() != site.id()) continue;
              const ShardName name{stripe.id(), static_cast<uint8_t>(c), shard.instance()};
              const uint64_t print = fingerprint(context_.namer.object_name(name));
              if (!names.covers(print)) continue;
              ++progress_->shards_checked;
              if (!names.has(print)) suspects->push_back(name);
            }
            return ++seen < kStripesPerStep;
          }));
      return seen == kStripesPerStep;
    }));
    for (size_t i = 0; i < suspects->size(); i += kConfirmed) {
      const size_t end = std::min(suspects->size(), i + kConfirmed);
      TRY(confirm(site, {suspects->begin() + static_cast<long>(i),
                         suspects->begin() + static_cast<long>(end)}));
    }
  }
  return success();
}

result<void> MissingScrub::confirm(Site& site, const std::vector<ShardName>& suspects) {
  FanOut<ReadReply> answers;
  for (const auto& name : suspects) {
    site.store().read(context_.namer.object_name(name), {}, false, options(), answers.slot());
  }
  std::vector<pb::Damage> found;
  for (size_t i = 0; i < suspects.size(); ++i) {
    const auto answer = answers.answer(i);
    if (answer || !answer.error().is(Errc::not_found)) continue;
    found.push_back(damage_of(suspects[i], site.id(), "missing"));
  }
  if (found.empty()) return success();
  progress_->missing += found.size();
  return context_.threads.on_loop<void>([&]() -> result<void> {
    if (told_) {
      told_(found);
      return success();
    }
    Transaction txn = context_.store.begin();
    for (const auto& damage : found) {
      TRY(record_damage(txn, damage));
    }
    return context_.commit(std::move(txn));
  });
}

}  // namespace datacloud
