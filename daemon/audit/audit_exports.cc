// From stripe records to signed pages.
#include "daemon/audit/audit_exports.h"

#include <fmt/format.h>

#include "common/base/clock.h"
#include "daemon/metadata/record_keys.h"
#include "daemon/metadata/totals.h"
#include "daemon/records/block_map.h"

namespace datacloud {
namespace {

constexpr int kStandingMax = 10'000;
constexpr size_t kDigestBytes = 32;

}  // namespace

result<uint64_t> AuditExports::begin(const std::string& base) {
  if (signer_ == nullptr) {
    return failure(Errc::unsupported, "this daemon has no key to sign audit bundles with");
  }
  if (!base.empty() && base.size() != kDigestBytes) {
    return failure(Errc::invalid, "the base of a refresh is a digest of 32 bytes");
  }
  pb::AuditBundleHeader header;
  header.set_format(kAuditBundleFormat);
  header.set_cloud_uuid(cloud_.uuid());
  header.set_cloud_name(cloud_.name());
  header.set_sequence(store_.sequence());
  header.set_made_ns(wall_now_ns());
  header.set_base(base);
  for (const auto& info : cloud_.sites()) {
    const auto key = audit_keys_.find(info.id());
    if (key == audit_keys_.end()) continue;
    auto* site = header.add_sites();
    site->set_id(info.id());
    site->set_name(info.name());
    site->set_audit_key(std::string(as_text(key->second.view())));
  }
  if (runs_.size() >= kRunsMax) runs_.erase(runs_.begin());
  const uint64_t id = next_run_++;
  runs_[id].header = header.SerializeAsString();
  return id;
}

result<bool> AuditExports::fill(const pb::AuditExportRequest& request, Run& run,
                                pb::AuditBundlePage& page) const {
  std::map<StripeId, const std::string*> known;  // fingerprints
  for (const auto& k : request.known()) {
    if (k.stripe() >= run.next && k.stripe() <= request.known_through()) {
      known[k.stripe()] = &k.fingerprint();
    }
  }
  // Up to which stripe the page covers everything.
  StripeId through = std::min<StripeId>(request.known_through(), kStripeIdMax);
  const std::string end = key::after_prefix(key::stripe(0).substr(0, 1));
  size_t stripes = 0, bytes = 0;
  result<void> outcome = success();
  const auto gone_below = [&](StripeId id) {
    while (!known.empty() && known.begin()->first < id) {
      page.add_changes()->set_stripe(known.begin()->first);
      known.erase(known.begin());
    }
  };
  TRY(store_.begin().scan(key::stripe(run.next), end, [&](std::string_view k, std::string_view v) {
    const StripeId id = key::u64_at(k, 1);
    if (id > through) return false;
    if (stripes >= kPageStripes || bytes >= kPageBytes) {
      through = id - 1;
      return false;
    }
    pb::Stripe stripe;
    if (!stripe.ParseFromArray(v.data(), static_cast<int>(v.size()))) {
      outcome = failure(Errc::corrupt, fmt::format("the record of stripe {} does not parse: see "
                                                   "`datacloud fsck`",
                                                   id));
      return false;
    }
    gone_below(id);
    std::string record = audit_record(stripe, namer_);
    run.state.add(id, record);
    ++stripes;
    const auto had = known.find(id);
    const bool same = had != known.end() && *had->second == audit_fingerprint(record);
    if (had != known.end()) known.erase(had);
    if (same) return true;
    bytes += record.size();
    auto* change = page.add_changes();
    change->set_stripe(id);
    change->set_record(std::move(record));
    return true;
  }));
  TRY(outcome);
  gone_below(through + 1);
  run.next = through + 1;
  return through == kStripeIdMax;
}

result<pb::AuditExportReply> AuditExports::page(const pb::AuditExportRequest& request) {
  if (request.known_size() > kKnownMax) {
    return failure(Errc::invalid, fmt::format("more than {} known records at once", kKnownMax));
  }
  uint64_t id = request.run();
  if (id == 0) {
    TRY(id, begin(request.base()));
  }
  const auto it = runs_.find(id);
  if (it == runs_.end()) {
    return failure(Errc::not_found,
                   fmt::format("the export number {} is forgotten: begin again", id));
  }
  Run& run = it->second;
  const uint64_t last = run.last.page();
  if (request.run() != 0 && last > 0 && request.page() == last) return run.last;
  if (!run.last.end().empty() || (request.run() != 0 && request.page() != last + 1)) {
    return failure(Errc::invalid,
                   fmt::format("page {} of export {} is not the next one", request.page(), id));
  }
  pb::AuditBundlePage page;
  pb::AuditExportReply reply;
  TRY(const bool complete, fill(request, run, page));
  reply.set_run(id);
  reply.set_page(last + 1);
  if (last == 0) reply.set_header(run.header);
  reply.set_changes(page.SerializeAsString());
  reply.set_next(run.next);
  reply.set_stripes_done(run.state.stripes());
  if (const auto totals = read_totals(store_.begin()); totals) {
    reply.set_stripes_total(totals.value().stripes);
  }
  reply.set_signer(std::string(as_text(signer_->public_key())));
  if (complete) {
    reply.set_end(
        seal_audit_bundle(*signer_, run.header, std::move(run.state)).SerializeAsString());
  }
  run.last = reply;
  return reply;
}

result<pb::AuditStandingReply> AuditExports::standing(
    const pb::AuditStandingRequest& request) const {
  if (request.shards_size() > kStandingMax) {
    return failure(Errc::invalid, fmt::format("more than {} shards at once", kStandingMax));
  }
  pb::AuditStandingReply reply;
  if (signer_ != nullptr) reply.set_signer(std::string(as_text(signer_->public_key())));
  reply.set_cloud_uuid(cloud_.uuid());
  const Transaction txn = store_.begin();
  for (const auto& shard : request.shards()) {
    TRY(const auto stripe, get_stripe(txn, shard.stripe()));
    const bool named =
        stripe && shard.column() < static_cast<uint32_t>(stripe->shards_size()) &&
        stripe->shards(static_cast<int>(shard.column())).state() == pb::SHARD_PRESENT &&
        stripe->shards(static_cast<int>(shard.column())).instance() == shard.instance();
    reply.add_standing(named);
  }
  return reply;
}

}  // namespace datacloud
