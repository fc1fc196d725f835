// Page by page: names, their records, then the objects' lengths and instances.
#include "daemon/fsck/site_check.h"

#include <fmt/format.h>

#include <unordered_set>

#include "common/store/object_compute.h"
#include "daemon/jobs/fan_out.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/metadata/record_snapshot.h"
#include "daemon/records/block_map.h"

namespace datacloud {
namespace {

constexpr size_t kPage = 256;
constexpr size_t kPendingMax = 4u << 20;  // deletions remembered while orphans are judged
constexpr auto kDeadline = seconds(30);

struct Expected {
  std::string object;
  ShardName name;
  uint64_t bytes = 0;
};

OpOptions options() { return {monotonic_now() + kDeadline, Purpose::repair}; }

class SiteCheck {
 public:
  SiteCheck(BackgroundContext& context, Site& site, size_t findings_max,
            const std::function<bool(InstanceId)>& maybe_wanted, SiteCheckProgress& progress)
      : context_(context),
        site_(site),
        findings_max_(findings_max),
        maybe_wanted_(maybe_wanted),
        progress_(progress) {}

  result<std::vector<SiteFinding>> run() {
    std::string from;
    do {
      TRY(auto page, wait_for<ListReply>([&](Callback<ListReply> done) {
            site_.store().list(from, kPage, options(), std::move(done));
          }));
      context_.threads.spend(site_.id(), page.names.size() * 40);
      TRY(const auto expected, classify(page.names));
      TRY(look_at(expected));
      progress_.objects += page.names.size();
      from = page.next;
      if (context_.threads.stopping()) return failure(Errc::unavailable, "the daemon is stopping");
    } while (!from.empty());
    TRY(tell_orphans());
    return std::move(findings_);
  }

 private:
  result<std::vector<Expected>> classify(const std::vector<std::string>& objects) {
    return context_.threads.on_loop<std::vector<Expected>>([&]() -> result<std::vector<Expected>> {
      std::vector<Expected> expected;
      const Transaction txn = context_.store.begin();
      for (const auto& object : objects) {
        const auto name = context_.namer.parse(object);
        std::optional<pb::Shard> shard;
        bool kept = false;
        if (name) {
          TRY(shard, named(txn, *name));
          TRY(const auto stripe, get_stripe(txn, name->stripe));
          if (!stripe) {
            TRY(kept, is_kept(txn, name->stripe));
          }
        }
        if (shard) {
          expected.push_back({object, *name, shard->bytes()});
        } else if (!name || kept || maybe_wanted_(name->instance)) {
          ++progress_.foreign;
        } else if (orphans_.size() < findings_max_) {
          orphans_.push_back({object, *name});
        }
      }
      return expected;
    });
  }

  result<std::optional<pb::Shard>> named(const Transaction& txn, const ShardName& name) const {
    TRY(const auto stripe, get_stripe(txn, name.stripe));
    if (!stripe || name.column >= stripe->shards_size()) return std::optional<pb::Shard>();
    const auto& shard = stripe->shards(name.column);
    const bool here = shard.instance() == name.instance && shard.site() == site_.id();
    return here ? std::optional(shard) : std::optional<pb::Shard>();
  }

  result<void> look_at(const std::vector<Expected>& all) {
    FanOut<ReadReply> answers;
    for (const auto& one : all) {
      context_.threads.spend(site_.id(), 0);
      site_.store().read(one.object, {}, true, options(), answers.slot());
    }
    for (size_t i = 0; i < all.size(); ++i) {
      const auto answer = answers.answer(i);
      if (!answer && answer.error().is(Errc::corrupt)) {
        TRY(tell(all[i], "damaged", "cannot be read: " + answer.error().message()));
      }
      if (!answer) continue;  // gone since, which the search for missing ones tells; or silent
      const auto& reply = answer.value();
      const auto instance = instance_of(reply.attributes);
      if (!instance || instance.value() != all[i].name.instance) {
        TRY(tell(all[i], "instance", "is of another instance"));
      } else if (reply.object_size != all[i].bytes) {
        TRY(tell(all[i], "length",
                 fmt::format("has {} bytes instead of {}", reply.object_size, all[i].bytes)));
      }
    }
    return success();
  }

  result<void> tell(const Expected& one, const char* kind, const std::string& what) {
    if (findings_.size() >= findings_max_) return success();
    TRY(const bool still, context_.threads.on_loop<bool>([&]() -> result<bool> {
      TRY(const auto shard, named(context_.store.begin(), one.name));
      return shard && shard->bytes() == one.bytes;
    }));
    if (!still) return success();
    findings_.push_back({kind,
                         fmt::format("stripe {} column {} at site {} {}", one.name.stripe,
                                     one.name.column, site_.name(), what),
                         damage_of(one.name, site_.id(), "fsck: " + what)});
    return success();
  }

  // What is known to be garbage, or has been named or deleted since, is no orphan.
  result<void> tell_orphans() {
    if (orphans_.empty()) return success();
    std::unique_ptr<RecordSnapshot> view;
    TRY(context_.threads.on_loop<void>([&]() -> result<void> {
      view = context_.store.snapshot();
      return success();
    }));
    std::unordered_set<InstanceId> pending;
    for (auto at = view->scan_all('P'); at.valid(); at.next()) {
      pb::PendingDeletion deletion;
      if (!deletion.ParseFromArray(at.value().data(), static_cast<int>(at.value().size()))) {
        continue;
      }
      pending.insert(deletion.instance());
      if (pending.size() > kPendingMax) return success();  // told when fewer wait
    }
    for (const auto& [object, name] : orphans_) {
      if (pending.contains(name.instance)) continue;
      pb::Stripe stripe;
      TRY(const bool found, view->get(key::stripe(name.stripe), stripe));
      if (found && name.column < stripe.shards_size() &&
          stripe.shards(name.column).instance() == name.instance) {
        continue;
      }
      const auto there = wait_for<ReadReply>([&, object = object](Callback<ReadReply> done) {
        site_.store().read(object, {}, false, options(), std::move(done));
      });
      if (!there || findings_.size() >= findings_max_) continue;
      findings_.push_back(
          {"orphan",
           fmt::format("object {} at site {} ({} bytes; stripe {} column {}) is "
                       "named by no record",
                       object, site_.name(), there.value().object_size, name.stripe, name.column),
           std::nullopt});
    }
    return success();
  }

  BackgroundContext& context_;
  Site& site_;
  const size_t findings_max_;
  const std::function<bool(InstanceId)>& maybe_wanted_;
  SiteCheckProgress& progress_;
  std::vector<SiteFinding> findings_;
  std::vector<std::pair<std::string, ShardName>> orphans_;
};

}  // namespace

result<std::vector<SiteFinding>> check_site(BackgroundContext& context, Site& site,
                                            size_t findings_max,
                                            const std::function<bool(InstanceId)>& maybe_wanted,
                                            SiteCheckProgress& progress) {
  return SiteCheck(context, site, findings_max, maybe_wanted, progress).run();
}

}  // namespace datacloud
