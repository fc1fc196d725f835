// Which stripes, in which order, and what is said of them. How answers are judged:
// common/audit/stripe_challenge.h.
#include "tools/audit/third_party.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <set>

#include "common/audit/stripe_challenge.h"
#include "common/base/hex.h"
#include "common/site/site_set.h"
#include "tools/audit/shard_question.h"

namespace datacloud {
namespace {

constexpr auto kSiteCheck = seconds(10);
constexpr auto kDeadline = seconds(60);
constexpr size_t kStripesAtOnce = 256;
constexpr uint64_t kBytesAtOnce = 64u << 20;  // of shards under challenge, where they must be read
constexpr size_t kSamplesMax = 1'000'000;
constexpr size_t kFindingsMax = 10'000;
constexpr size_t kDoubtsMax = 100;

struct Suspicion {
  InstanceId instance = 0;
};
using Suspicions = std::map<std::pair<StripeId, int>, Suspicion>;

int64_t unix_now() { return wall_now_ns() / 1'000'000'000; }

class ThirdParty {
 public:
  ThirdParty(const ThirdPartyOptions& options, AuditBundle bundle,
             std::function<void(uint64_t, uint64_t)> progress)
      : options_(options), bundle_(std::move(bundle)), progress_(std::move(progress)) {}

  result<void> open_sites(const std::vector<SiteConfig>& configs) {
    std::map<SiteId, SecretKey> keys;
    std::vector<SiteSet::Member> members;
    const auto& header = bundle_.header();
    for (const auto& site : header.sites()) {
      names_[site.id()] = site.name();
      keys.emplace(site.id(), SecretKey(as_bytes(site.audit_key())));
      const auto config = std::find_if(configs.begin(), configs.end(),
                                       [&](const auto& c) { return c.name == site.name(); });
      if (config == configs.end()) continue;
      SiteMarker marker;
      marker.cloud_uuid = header.cloud_uuid();
      marker.cloud_name = header.cloud_name();
      marker.site_name = site.name();
      marker.site_id = site.id();
      TRY(auto store, open_store(*config, marker));
      members.push_back({site.id(), site.name(), std::move(store)});
      if (config->store == "directory") computes_nothing_.insert(site.id());
    }
    if (members.empty()) {
      return failure(Errc::invalid, "no site of the bundle is in the list of sites");
    }
    tags_ = std::make_unique<ShardTags>(keys);
    sites_ = std::make_unique<SiteSet>(std::move(members));
    sites_->check_all(kSiteCheck);
    return success();
  }

  result<ReportJson> run() {
    const int64_t started = unix_now();
    if (!options_.recheck.empty()) {
      TRY(read_suspicions());
    } else if (options_.samples > 0 || options_.confidence > 0) {
      TRY(choose_sample());
    }
    TRY(bundle_.for_each([&](StripeId id, const std::string& record) -> result<void> {
      const ColumnSet columns = columns_of(id);
      if (columns != 0) {
        TRY(auto stripe, audited_stripe(id, record));
        ask(std::move(stripe), columns);
      }
      ++stripes_passed_;
      return success();
    }));
    judge_all();
    for (const auto& [where, suspicion] : suspicions_) {  // stripes that are no more
      outdated(where.first, where.second, suspicion.instance, 0);
    }
    return report(started);
  }

 private:
  struct Asked {
    std::unique_ptr<StripeChallenge> challenge;
    std::vector<std::string> objects;
    std::optional<Combination> combination;  // asked for besides
    std::vector<std::pair<int, std::function<ShardAnswer()>>> answers;
  };
  struct SiteCounts {
    uint64_t checked = 0, proven = 0, not_asked = 0;
    std::map<std::string, uint64_t> found;
  };

  // --- What is asked for ---

  ColumnSet columns_of(StripeId id) {
    if (!options_.recheck.empty()) {
      ColumnSet columns = 0;
      for (auto it = suspicions_.lower_bound({id, 0});
           it != suspicions_.end() && it->first.first == id; ++it) {
        columns |= ColumnSet{1} << it->first.second;
      }
      return columns;
    }
    if (!sampled_) return ~ColumnSet{0};
    const auto it = sample_.find(id);
    return it == sample_.end() ? 0 : it->second;
  }

  result<void> read_suspicions() {
    TRY(const auto text, read_text_file(options_.recheck, kReportBytesMax));
    auto signed_report = verify_report(text);
    if (!signed_report) return failure(signed_report.error().in(options_.recheck.string()));
    const auto& report = signed_report.value().report;
    try {
      if (report.at("cloud").at("uuid") != bundle_.header().cloud_uuid()) {
        return failure(Errc::invalid, "the report is about another cloud");
      }
      for (const auto& finding : report.at("findings")) {
        const int column = finding.at("column").get<int>();
        if (column < 0 || column >= 32) return failure(Errc::corrupt, "a column out of bounds");
        suspicions_[{finding.at("stripe").get<StripeId>(), column}] = {
            finding.at("instance").get<InstanceId>()};
      }
    } catch (const ReportJson::exception& e) {
      return failure(Errc::corrupt, fmt::format("the report is not complete: {}", e.what()));
    }
    return success();
  }

  // Every shard with the same chance, by reservoir sampling over the bundle.
  result<void> choose_sample() {
    uint64_t wanted = options_.samples;
    if (wanted == 0) {
      uint64_t shards = 0;
      TRY(each_shard([&](StripeId, int) { ++shards; }));
      const auto bad = static_cast<uint64_t>(
          std::max(1.0, std::ceil(options_.damage * static_cast<double>(shards))));
      wanted = samples_to_detect(shards, std::min(bad, shards), options_.confidence);
    }
    wanted = std::min<uint64_t>(wanted, kSamplesMax);
    std::random_device device;
    std::seed_seq seed{device(), device(), device(), device(),
                       device(), device(), device(), device()};
    std::mt19937_64 random(seed);
    std::vector<std::pair<StripeId, int>> chosen;
    uint64_t seen = 0;
    TRY(each_shard([&](StripeId id, int column) {
      ++seen;
      if (chosen.size() < wanted) {
        chosen.emplace_back(id, column);
      } else if (const uint64_t i = random() % seen; i < wanted) {
        chosen[i] = {id, column};
      }
    }));
    for (const auto& [id, column] : chosen) sample_[id] |= ColumnSet{1} << column;
    sampled_ = true;
    samples_ = chosen.size();
    return success();
  }

  template <class Visit>
  result<void> each_shard(Visit visit) {
    return bundle_.for_each([&](StripeId id, const std::string& record) -> result<void> {
      TRY(const auto stripe, audited_stripe(id, record));
      for (int c = 0; c < stripe.stripe.shards_size(); ++c) {
        if (stripe.stripe.shards(c).state() == pb::SHARD_PRESENT) visit(id, c);
      }
      return success();
    });
  }

  // --- Asking ---

  void ask(AuditedStripe audited, ColumnSet columns) {
    uint64_t bytes = 0;
    for (const auto& shard : audited.stripe.shards()) bytes += shard.bytes();
    if (asked_.size() >= kStripesAtOnce || (!asked_.empty() && window_ + bytes > kBytesAtOnce)) {
      judge_all();
    }
    window_ += bytes;
    auto& asked = asked_.emplace_back();
    asked.challenge = std::make_unique<StripeChallenge>(*tags_, std::move(audited.stripe), 0);
    asked.objects = std::move(audited.objects);
    if (compares(*asked.challenge, columns)) asked.combination = asked.challenge->combination();
    for (int c = 0; c < asked.challenge->stripe().shards_size(); ++c) {
      if (contains(columns, c)) ask_column(asked, c);
    }
  }

  // Whether the stripe is asked for combinations: always where they cost nothing, or there is no
  // other test.
  bool compares(const StripeChallenge& challenge, ColumnSet columns) {
    if (!challenge.combination()) return false;
    bool free = true;
    ColumnSet asked = 0;
    for (int c = 0; c < challenge.stripe().shards_size(); ++c) {
      const auto& shard = challenge.stripe().shards(c);
      const Site* site = sites_->find(shard.site());
      if (shard.state() != pb::SHARD_PRESENT || site == nullptr || !site->up()) continue;
      asked |= ColumnSet{1} << c;
      free = free && computes_nothing_.count(shard.site()) > 0;
    }
    return challenge.comparable(columns & asked) &&
           (free || challenge.combination_needed() ||
            (options_.compare_one_in > 0 && random_() % options_.compare_one_in == 0));
  }

  void ask_column(Asked& asked, int c) {
    auto& challenge = *asked.challenge;
    const auto& shard = challenge.stripe().shards(c);
    const auto suspicion = suspicions_.find({challenge.stripe().id(), c});
    if (suspicion != suspicions_.end()) {
      const InstanceId instance = suspicion->second.instance;
      suspicions_.erase(suspicion);
      if (shard.state() != pb::SHARD_PRESENT || shard.instance() != instance) {
        return outdated(challenge.stripe().id(), c, instance, shard.site());
      }
    }
    if (shard.state() != pb::SHARD_PRESENT) return;
    Site* site = sites_->find(shard.site());
    if (site == nullptr) {
      ++counts_[shard.site()].not_asked;
      return;
    }
    if (!site->up()) return challenge.silent(c, site->away_reason());
    ShardQuestion question{asked.objects[static_cast<size_t>(c)], shard.bytes(),
                           challenge.challenge(), asked.combination};
    question.read = question.combination && computes_nothing_.count(shard.site()) > 0;
    asked.answers.emplace_back(c, ask_shard(site->store(), std::move(question),
                                            {monotonic_now() + kDeadline, Purpose::audit}));
  }

  void judge_all() {
    for (auto& asked : asked_) judge(asked);
    asked_.clear();
    window_ = 0;
    progress_(stripes_passed_, bundle_.end().stripes());
  }

  void judge(Asked& asked) {
    auto& challenge = *asked.challenge;
    for (auto& [c, answer] : asked.answers) {
      const SiteId site = challenge.stripe().shards(c).site();
      auto& counts = counts_[site];
      ++counts.checked;
      const size_t before = challenge.faults().size();
      const ShardAnswer given = answer();
      challenge.judge(c, given.proof);
      counts.proven += challenge.faults().size() == before;
      if (given.proof && !given.proof.value().at_site) computes_nothing_.insert(site);
      if (given.combined) challenge.judge_combined(c, *given.combined);
    }
    challenge.finish();
    const auto& totals = challenge.totals();
    totals_.shards_checked += totals.shards_checked;
    totals_.bytes_covered += totals.bytes_covered;
    totals_.bytes_transferred += totals.bytes_transferred;
    totals_.read_remotely += totals.read_remotely;
    ++stripes_asked_;
    for (const auto& fault : challenge.faults()) {
      const auto& shard = challenge.stripe().shards(fault.column);
      add({{"stripe", challenge.stripe().id()},
           {"column", fault.column},
           {"instance", shard.instance()},
           {"object", asked.objects[static_cast<size_t>(fault.column)]},
           {"detail", fault.detail}},
          shard.site(), verdict_name(fault.verdict));
    }
    stripes_compared_ += challenge.compared();
    if (!challenge.doubt().empty() && doubts_.size() < kDoubtsMax) {
      doubts_.push_back(challenge.doubt_at([this](SiteId id) { return name_of(id); }));
    }
  }

  void outdated(StripeId stripe, int column, InstanceId instance, SiteId site) {
    add({{"stripe", stripe},
         {"column", column},
         {"instance", instance},
         {"object", ""},
         {"detail", "replaced since: no finding"}},
        site, "outdated");
  }

  void add(ReportJson finding, SiteId site, const std::string& reason) {
    ++counts_[site].found[reason];
    ++findings_total_;
    finding["site"] = name_of(site);
    finding["reason"] = reason;
    if (findings_.size() < kFindingsMax) findings_.push_back(std::move(finding));
  }

  // --- The report ---

  std::string name_of(SiteId id) const {
    const auto it = names_.find(id);
    return it != names_.end() ? it->second : id == 0 ? "" : fmt::format("site {}", id);
  }

  ReportJson report(int64_t started) const {
    ReportJson sites = ReportJson::array();
    for (const auto& [id, counts] : counts_) {
      if (id == 0) continue;
      sites.push_back({{"site", name_of(id)},
                       {"shards_checked", counts.checked},
                       {"shards_proven", counts.proven},
                       {"shards_not_asked", counts.not_asked},
                       {"found", counts.found}});
    }
    const char* scope = !options_.recheck.empty() ? "recheck" : sampled_ ? "sample" : "full";
    return {{"format", 1},
            {"cloud",
             {{"uuid", bundle_.header().cloud_uuid()}, {"name", bundle_.header().cloud_name()}}},
            {"bundle",
             {{"sequence", bundle_.header().sequence()},
              {"stripes", bundle_.end().stripes()},
              {"state", to_hex(as_bytes(bundle_.end().state()))},
              {"signer", to_hex(options_.signer)}}},
            {"started", started},
            {"ended", unix_now()},
            {"scope", scope},
            {"samples", samples_},
            {"stripes_asked", stripes_asked_},
            {"stripes_compared", stripes_compared_},
            {"shards_checked", totals_.shards_checked},
            {"bytes_covered", totals_.bytes_covered},
            {"bytes_transferred", totals_.bytes_transferred},
            {"read_remotely", totals_.read_remotely},
            {"sites", std::move(sites)},
            {"findings", findings_},
            {"findings_total", findings_total_},
            {"doubts", doubts_}};
  }

  const ThirdPartyOptions& options_;
  const AuditBundle bundle_;
  const std::function<void(uint64_t, uint64_t)> progress_;
  std::map<SiteId, std::string> names_;
  std::unique_ptr<ShardTags> tags_;
  std::unique_ptr<SiteSet> sites_;
  std::set<SiteId> computes_nothing_;  // directories, and where an answer has shown it
  std::minstd_rand random_{std::random_device{}()};
  Suspicions suspicions_;  // to be looked at again
  bool sampled_ = false;
  std::map<StripeId, ColumnSet> sample_;
  uint64_t samples_ = 0;
  std::vector<Asked> asked_;
  uint64_t window_ = 0;
  uint64_t stripes_passed_ = 0, stripes_asked_ = 0, stripes_compared_ = 0, findings_total_ = 0;
  StripeChallenge::Totals totals_;
  std::map<SiteId, SiteCounts> counts_;
  ReportJson findings_ = ReportJson::array();
  std::vector<std::string> doubts_;
};

}  // namespace

result<ReportJson> audit_as_third_party(const ThirdPartyOptions& options,
                                        const std::vector<SiteConfig>& sites,
                                        std::function<void(uint64_t, uint64_t)> progress) {
  TRY(auto bundle, AuditBundle::open(options.bundle, options.refresh, options.signer));
  ThirdParty audit(options, std::move(bundle), std::move(progress));
  TRY(audit.open_sites(sites));
  return audit.run();
}

}  // namespace datacloud
