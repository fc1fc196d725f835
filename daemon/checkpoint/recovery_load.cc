// A metadata directory from a checkpoint and the entries behind it (recovery.h).
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <set>
#include <utility>

#include "daemon/checkpoint/log_reading.h"
#include "daemon/checkpoint/recovery.h"
#include "daemon/journal/log_bytes.h"
#include "daemon/metadata/journal_records.h"
#include "daemon/metadata/metadata_loader.h"
#include "daemon/metadata/record_keys.h"

namespace datacloud {
namespace {

constexpr uint64_t kProgressEntries = 256;
// As fsck lets counters jump that are behind what they have given out (check_ids.cc).
constexpr uint64_t kIdJump = uint64_t{1} << 40, kTreeIdJump = uint64_t{1} << 16;

// What a callback ends the reading of a log with.
struct Stop {
  bool reached = false;
};

class Load {
 public:
  Load(Survey& survey, const std::vector<RecoverySource>& sources, const CheckpointPlace& place,
       const MetadataStore::Options& options, const RecoveryProgress& progress)
      : survey_(survey),
        sources_(sources),
        source_(sources[survey.source]),
        place_(place),
        options_(options),
        progress_(progress) {}

  result<Recovered> run(uint64_t to) {
    TRY(load_checkpoint(to));
    TRY(replay(to));
    TRY(const auto set, loader_->get(key::meta(kJournalRecord)));
    if (!set || !out_.set.ParseFromString(*set) || !valid_set(out_.set)) {
      return failure(Errc::corrupt, "what was recovered does not say which sites hold the journal");
    }
    TRY(loader_->finish(out_.position));
    return std::move(out_);
  }

 private:
  void tell(const std::string& what, uint64_t done, uint64_t all) const {
    if (progress_) progress_(what, done, all);
  }

  // The newest one that can be read; what another attempt has written is thrown away.
  result<void> load_checkpoint(uint64_t to) {
    Error last(Errc::not_found,
               fmt::format("no checkpoint is there from which entry {} can be reached", to));
    for (size_t i = 0; i < survey_.roots.size() || look_further(); ++i) {
      if (i >= survey_.roots.size()) break;
      const FoundRoot& found = survey_.roots[i];
      if (found.covered > to || found.covered + 1 < survey_.floor) continue;
      TRY(clear_directory(*options_.files, options_.directory));
      TRY(loader_, MetadataLoader::create(options_));
      const auto pieces = static_cast<uint64_t>(found.root.pieces_size());
      auto read = read_checkpoint(
          found.root, place_,
          [&](std::string_view key, std::string_view value) { return loader_->put(key, value); },
          [&](size_t piece) { tell("checkpoint", piece + 1, pieces); });
      if (read) {
        out_.checkpoint = found.root.number();
        out_.covered = found.covered;
        out_.records = read.value().records;
        out_.position = journal::get_position(as_bytes(found.root.position()), 0);
        auto& problems = read.value().problems;
        out_.problems.insert(out_.problems.end(), problems.begin(), problems.end());
        return success();
      }
      loader_.reset();
      last = read.error();
      // Of the disk here: another checkpoint would not help.
      if (!last.is(Errc::unavailable) && !last.is(Errc::corrupt)) return failure(last);
      out_.problems.push_back(fmt::format("checkpoint {} cannot be read: {}",
                                          checkpoint_name(found.root.number()), last.message()));
    }
    return failure(last);
  }

  // None of the checkpoints that the survey has found will do: are there others?
  bool look_further() {
    uint64_t reach = survey_.end.sequence;
    for (const auto& found : survey_.roots) reach = std::min(reach, found.covered);
    if (survey_.whole() || reach == 0) return false;
    const auto read = survey_further(survey_, sources_, place_, reach - 1);
    if (!read)
      out_.problems.push_back("the journal cannot be read further: " + read.error().message());
    return read.has_value();
  }

  result<void> replay(uint64_t to) {
    TransactionReader transactions(place_.metadata_key);
    const uint64_t all = to - out_.covered;
    Stop stop;
    auto read = read_entries(*source_.log, place_.journal, out_.covered + 1, out_.position,
                             [&](const journal::LogEntry& entry) -> result<void> {
                               if (entry.header.sequence > to) {
                                 stop.reached = true;
                                 return failure(Errc::unavailable, "the end that was asked for");
                               }
                               TRY(auto batch, transactions.add(entry));
                               if (batch) {
                                 TRY(loader_->apply(std::move(batch->changes), batch->sequence));
                                 ++out_.transactions;
                               }
                               if (!transactions.open()) out_.position = entry.position();
                               const uint64_t done = entry.header.sequence - out_.covered;
                               if (done % kProgressEntries == 0 || done == all)
                                 tell("entries", done, all);
                               return success();
                             });
    if (!read && !stop.reached) return failure(read.error().in("site " + source_.name));
    return success();
  }

  Survey& survey_;
  const std::vector<RecoverySource>& sources_;
  const RecoverySource& source_;
  const CheckpointPlace& place_;
  const MetadataStore::Options& options_;
  const RecoveryProgress& progress_;
  std::unique_ptr<MetadataLoader> loader_;
  Recovered out_;
};

result<void> jump(Transaction& txn, const std::string& name, uint64_t by) {
  const std::string k = key::meta(name);
  TRY(const auto stored, txn.get(k));
  if (!stored || stored->size() != 8) return success();  // fsck's business
  std::string next;
  const uint64_t value = key::u64_at(*stored, 0) + by;
  for (int shift = 56; shift >= 0; shift -= 8) next.push_back(static_cast<char>(value >> shift));
  txn.put(k, std::move(next));
  return success();
}

// Checkpoints of what is given up: nobody knows of their objects otherwise.
void retire(Transaction& txn, const FoundRoot& found) {
  pb::CheckpointRecord record;
  record.set_number(found.root.number());
  record.set_state(pb::CHECKPOINT_RETIRING);
  record.set_position(found.root.position());
  record.set_made_ns(found.root.made_ns());
  record.set_pieces(static_cast<uint32_t>(found.root.pieces_size()));
  record.set_columns(static_cast<uint32_t>(found.root.pieces(0).sites_size()));
  record.set_scattered(true);
  std::set<uint32_t> sites;
  for (const auto& piece : found.root.pieces()) {
    for (const uint32_t site : piece.sites()) {
      if (site != 0 && sites.insert(site).second) record.add_sites(site);
    }
  }
  txn.put(key::meta(kCheckpointRecord + checkpoint_name(found.root.number())), record);
}

}  // namespace

result<Recovered> load_metadata(Survey& survey, const std::vector<RecoverySource>& sources,
                                const CheckpointPlace& place, const MetadataStore::Options& wanted,
                                std::optional<uint64_t> to, const RecoveryProgress& progress) {
  MetadataStore::Options options = wanted;
  if (!options.files) options.files = make_posix_file_layer();
  const uint64_t end = to.value_or(survey.end.sequence);
  if (end <= survey.end.sequence && survey.root_for(end) == nullptr && !survey.whole()) {
    TRY(survey_further(survey, sources, place, end));
  }
  if (end > survey.end.sequence || survey.root_for(end) == nullptr) {
    return failure(Errc::not_found,
                   fmt::format("entry {} cannot be recovered: the sites have what leads to entries "
                               "{} to {}",
                               end, survey.oldest(), survey.end.sequence));
  }
  return Load(survey, sources, place, options, progress).run(end);
}

result<void> adapt_metadata(const MetadataStore::Options& options, const Survey& survey,
                            const std::optional<pb::JournalSet>& set) {
  TRY(const auto store, MetadataStore::open(options));
  const uint64_t at = store->journal_position().sequence;
  Transaction txn = store->begin();
  for (const char* name :
       {"next_id/inode", "next_id/stripe", "next_id/instance", "next_id/version"}) {
    TRY(jump(txn, name, kIdJump));
  }
  TRY(jump(txn, "next_id/tree", kTreeIdJump));
  for (const auto& found : survey.roots) {
    if (found.covered > at && found.root.pieces_size() > 0) retire(txn, found);
  }
  if (set) txn.put(key::meta(kJournalRecord), *set);
  TRY(const Sequence sequence, store->commit(std::move(txn)));
  return store->wait_durable(sequence);
}

result<void> clear_directory(FileLayer& files, const std::string& directory) {
  auto names = files.list(directory);
  if (!names) {
    if (names.error().errno_value() == ENOENT) return success();
    return failure(names.error());
  }
  for (const auto& name : names.value()) {
    TRY(files.unlink(directory + "/" + name));
  }
  return files.remove_directory(directory);
}

result<void> adopt_directory(FileLayer& files, const std::string& made,
                             const std::string& directory) {
  if (files.stat(directory)) {
    return failure(Errc::exists, directory + " is there already");
  }
  TRY(files.rename(made, directory));
  const size_t slash = directory.find_last_of('/');
  return files.sync_directory(slash == 0 ? "/" : directory.substr(0, slash));
}

}  // namespace datacloud
