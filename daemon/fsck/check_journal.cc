// The records of the journal: where it is, where the store is in it, and what undoes transactions.
//
// What says where the store is cannot be put together from other records: then it is rebuilt from
// the sites. An undo record that is damaged takes those before it with it: they are used from the
// newest on, without a gap.
#include <fmt/format.h>

#include "common/base/features.h"
#include "common/proto/journal.pb.h"
#include "daemon/fsck/record_passes.h"
#include "daemon/leadership/standby_registry.h"
#include "daemon/metadata/journal_records.h"
#include "daemon/records/cloud_features.h"

namespace datacloud {
namespace {

constexpr const char* kRecover = "; rebuild the metadata from the sites (datacloud recover)";

// Longer than what anybody configures by mistake: a claimer waits that long, once.
constexpr uint32_t kLeaseAfterDamageMs = 5'000;

class JournalRecords {
 public:
  explicit JournalRecords(RecordPasses& p) : p_(p) {}

  result<void> run() {
    TRY(const auto set, p_.view.get(key::meta(kJournalRecord)));
    TRY(const auto position, p_.view.get(key::meta(kPositionRecord)));
    pb::Features features;
    TRY(const auto listed, p_.view.get(key::meta("features")));
    if (listed) (void)parses(*listed, features);
    if (set) {
      TRY(check_set(*set, position));
    } else if (includes(features, Feature::journal)) {
      p_.add({.kind = "journal",
              .text = std::string("the cloud has a journal, and the record of its sites is gone") +
                      kRecover});
      return success();
    } else if (position) {
      p_.add({.kind = "journal",
              .text = "a position in a journal that the cloud does not have",
              .action = "it is erased",
              .records = {{key::meta(kPositionRecord), position, std::nullopt}},
              .offline_only = true});
    }
    TRY(check_daemons());
    return set ? check_undo() : stray_undo();
  }

 private:
  // A leader begins it anew; its standbys tell it of themselves.
  result<void> check_daemons() {
    TRY(const auto stored, p_.view.get(key::meta(kLeadershipRecord)));
    if (!stored) return success();
    TRY(p_.count());
    pb::Leadership record;
    const std::string problem =
        parses(*stored, record) ? leadership_problem(record) : "it does not parse";
    if (problem.empty()) return success();
    // The lease goes on: other daemons may stand by.
    pb::Leadership kept;
    kept.set_lease_ms(record.lease_ms() != 0 ? record.lease_ms() : kLeaseAfterDamageMs);
    p_.add({.kind = "journal",
            .text = "the record of the cloud's daemons is damaged: " + problem,
            .action = "it is begun anew; daemons that stand by tell of themselves",
            .records = {{key::meta(kLeadershipRecord), stored, kept.SerializeAsString()}}});
    return success();
  }

  result<void> check_set(const std::string& stored, const std::optional<std::string>& position) {
    p_.note_use("journal", [] { return std::string("the record of the journal's sites"); });
    TRY(p_.count());
    pb::JournalSet set;
    if (!parses(stored, set) || !valid_set(set)) {
      p_.add({.kind = "journal",
              .text = std::string("the record of the journal's sites is damaged") + kRecover});
    }
    if (!position || !decode_position(*position)) {
      p_.add({.kind = "journal",
              .text = fmt::format("where the metadata is in the journal is {}{}",
                                  position ? "damaged" : "not recorded", kRecover)});
    }
    return success();
  }

  static bool whole(const RecordSnapshot::Cursor& at) {
    pb::JournalUndo undo;
    if (at.key().size() != 9 || !parses(at.value(), undo)) return false;
    bool sequence = false, position = false;
    for (const auto& change : undo.changes()) {
      sequence |= change.key() == key::meta("sequence") && change.value().size() == 8;
      position |=
          change.key() == key::meta(kPositionRecord) && decode_position(change.value()).has_value();
    }
    return sequence && position;
  }

  result<void> check_undo() {
    std::string last;  // damaged
    auto at = p_.view.scan_all('u');
    for (; at.valid(); at.next()) {
      TRY(p_.count());
      if (!whole(at)) last = at.key();
    }
    TRY(at.status());
    if (last.empty()) return success();
    Finding finding{.kind = "journal",
                    .text = fmt::format("what undoes entry {} of the journal is damaged",
                                        last.size() == 9 ? key::u64_at(last, 1) : 0),
                    .action =
                        "it is erased with those before it; a start that has to go back "
                        "behind them needs a checkpoint",
                    .offline_only = true};
    auto gone = p_.view.scan("u", last + '\0');
    for (; gone.valid(); gone.next()) finding.records.push_back(erased(gone));
    TRY(gone.status());
    p_.add(std::move(finding));
    return success();
  }

  result<void> stray_undo() {
    auto at = p_.view.scan_all('u');
    for (; at.valid(); at.next()) {
      TRY(p_.count());
      p_.add({.kind = "journal",
              .text = fmt::format("what undoes entry {} of a journal that the cloud does not have",
                                  id_at(at)),
              .action = "it is erased",
              .records = {erased(at)},
              .offline_only = true});
    }
    return at.status();
  }

  RecordPasses& p_;
};

}  // namespace

result<void> check_journal(RecordPasses& passes) { return JournalRecords(passes).run(); }

}  // namespace datacloud
