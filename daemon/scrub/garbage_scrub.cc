// One site at a time, page by page.
#include "daemon/scrub/garbage_scrub.h"

#include <fmt/format.h>

#include <atomic>

#include "common/base/log.h"
#include "daemon/metadata/counters.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/records/block_map.h"

namespace datacloud {
namespace {

constexpr size_t kPage = 256;
constexpr auto kPause = milliseconds(2);  // between pages: requests go first
constexpr auto kDeadline = seconds(10);   // of one call

std::string due_key(SiteId site) { return fmt::format("scrub_due/{}", site); }
OpOptions gc_options() { return {monotonic_now() + kDeadline, Purpose::gc}; }

}  // namespace

result<ListedObject> judge_listed(const Transaction& txn, const ShardNamer& namer,
                                  const IdRanges& ranges, const std::string& object) {
  const auto name = namer.parse(object);
  if (!name || name->instance == 0 || name->instance >= ranges.high_water(IdKind::instance)) {
    return ListedObject::unknown;
  }
  if (ranges.live(IdKind::instance, name->instance)) return ListedObject::wanted;
  TRY(const auto stripe, get_stripe(txn, name->stripe));
  if (!stripe) {
    TRY(const bool kept, is_kept(txn, name->stripe));
    return kept ? ListedObject::wanted : ListedObject::garbage;
  }
  const bool named = name->column < stripe->shards_size() &&
                     stripe->shards(name->column).instance() == name->instance;
  return named ? ListedObject::wanted : ListedObject::garbage;
}

void remove_listed(Site& site, const std::string& object,
                   std::function<void(result<uint64_t>)> done) {
  // Its size first, for the report.
  site.store().read(object, {}, false, gc_options(),
                    [&site, object, done = std::move(done)](result<ReadReply> found) {
                      const uint64_t bytes = found ? found.value().object_size : 0;
                      site.store().remove(
                          object, gc_options(), [bytes, done](result<void> removed) {
                            done(removed ? result<uint64_t>(bytes) : failure(removed.error()));
                          });
                    });
}

struct GarbageScrub::Page {
  std::vector<std::string> names;
  std::string next;
  std::vector<std::string> garbage;
  std::atomic<size_t> left{0};
  std::atomic<uint64_t> removed{0}, bytes{0};
};

GarbageScrub::GarbageScrub(MetadataStore& store, Committer& committer, SiteSet& sites,
                           const ShardNamer& namer, const IdRanges& ranges,
                           std::shared_ptr<EventLoop> loop)
    : store_(store),
      committer_(committer),
      sites_(sites),
      namer_(namer),
      ranges_(ranges),
      loop_(std::move(loop)) {}

result<void> GarbageScrub::open(const Transaction& txn) {
  for (Site* site : sites_.all()) {
    TRY(due_[site->id()].wanted, read_counter(txn, due_key(site->id()), 0));
  }
  return success();
}

void GarbageScrub::make_due(Transaction& txn) {
  for (Site* site : sites_.all()) put_counter(txn, due_key(site->id()), ++due_[site->id()].wanted);
}

void GarbageScrub::kick() {
  for (auto& [id, due] : due_) due.failed = false;
  if (!running_) next_site();
}

uint64_t GarbageScrub::unknown_objects() const {
  uint64_t sum = 0;
  for (const auto& [site, count] : unknown_) sum += count;
  return sum;
}

void GarbageScrub::next_site() {
  running_ = false;
  for (Site* site : sites_.all()) {
    const Due& due = due_[site->id()];
    if (due.wanted == 0 || due.failed || !site->up()) continue;
    running_ = true;
    unknown_here_ = 0;
    wanted_here_ = due.wanted;
    committer_.when_durable([this, site] { list_page(site, ""); });
    return;
  }
}

void GarbageScrub::list_page(Site* site, std::string from) {
  site->store().list(from, kPage, gc_options(),
                     [this, site, loop = loop_](result<ListReply> reply) {
                       auto shared = std::make_shared<result<ListReply>>(std::move(reply));
                       loop->post([this, site, shared] {
                         if (!*shared) return site_done(site, &shared->error());
                         auto page = std::make_shared<Page>();
                         page->names = std::move(shared->value().names);
                         page->next = std::move(shared->value().next);
                         classify(site, page);
                       });
                     });
}

void GarbageScrub::classify(Site* site, std::shared_ptr<Page> page) {
  const Transaction txn = store_.begin();
  for (auto& name : page->names) {
    const auto judged = judge_listed(txn, namer_, ranges_, name);
    if (!judged) return site_done(site, &judged.error());
    if (judged.value() == ListedObject::unknown) ++unknown_here_;
    if (judged.value() == ListedObject::garbage) page->garbage.push_back(std::move(name));
  }
  remove_garbage(site, page);
}

void GarbageScrub::remove_garbage(Site* site, const std::shared_ptr<Page>& page) {
  page->left = page->garbage.size() + 1;
  const auto arrived = [this, site, page, loop = loop_] {
    if (--page->left == 0) loop->post([this, site, page] { page_done(site, page); });
  };
  for (const auto& name : page->garbage) {
    remove_listed(*site, name, [page, arrived](result<uint64_t> bytes) {
      if (bytes) {
        ++page->removed;
        page->bytes += bytes.value();
      }
      arrived();
    });
  }
  arrived();
}

void GarbageScrub::page_done(Site* site, const std::shared_ptr<Page>& page) {
  counts_.objects += page->removed;
  counts_.bytes += page->bytes;
  if (page->next.empty()) return site_done(site, nullptr);
  loop_->after(kPause, [this, site, page] { list_page(site, page->next); });
}

void GarbageScrub::site_done(Site* site, const Error* failure) {
  Due& due = due_[site->id()];
  if (failure != nullptr) {
    spdlog::warn("looking for garbage at site {}: {}; it is tried again later", site->name(),
                 failure->message());
    due.failed = true;
  } else {
    unknown_[site->id()] = unknown_here_;
    if (due.wanted == wanted_here_) {
      Transaction txn = store_.begin();
      txn.erase(key::meta(due_key(site->id())));
      if (committer_.apply(std::move(txn))) due.wanted = 0;
    }
  }
  next_site();
}

}  // namespace datacloud
