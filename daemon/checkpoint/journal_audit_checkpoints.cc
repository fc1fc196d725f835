// The columns of kept checkpoints, and their repair (journal_audit.h).
#include <utility>

#include "common/base/log.h"
#include "daemon/checkpoint/checkpoint_rules.h"
#include "daemon/checkpoint/journal_audit.h"

namespace datacloud {
namespace {

// The root in an entry, from whichever site has it.
result<pb::CheckpointRoot> read_root_entry(
    const std::vector<std::shared_ptr<journal::LogStore>>& logs, const SecretKey& key,
    uint64_t number, uint64_t entry) {
  Error why(Errc::unavailable, "no site has it");
  for (const auto& log : logs) {
    const auto got = log->read(entry, 1);
    if (!got || got.value().empty()) {
      if (!got) why = got.error();
      continue;
    }
    journal::EntryOpener opener(key);
    const auto content = opener.open(got.value().front());
    pb::CheckpointRoot root;
    if (content &&
        root.ParseFromArray(content.value().data(), static_cast<int>(content.value().size())) &&
        root.number() == number) {
      return root;
    }
    why = Error(Errc::corrupt, "another entry is in its place");
  }
  return failure(why);
}

struct MendJob {
  std::shared_ptr<pb::CheckpointRoot> root;
  result<MendedPiece> done = MendedPiece();
};

}  // namespace

void JournalAudit::check_checkpoint() {
  const auto& next = state_.roots(0);
  if (!checkpoints_.hold(next.number())) return checkpoint_over();  // it was retired meanwhile
  if (!root_) return read_root();
  if (static_cast<int>(state_.piece()) >= root_->pieces_size()) return checkpoint_over();
  mend();
}

void JournalAudit::read_root() {
  std::vector<std::shared_ptr<journal::LogStore>> logs;
  for (const auto& one : log_.members()) {
    if (one.state != journal::MemberState::State::ok) continue;
    if (auto log = log_.log_at(one.site)) logs.push_back(std::move(log));
  }
  auto outcome = std::make_shared<result<pb::CheckpointRoot>>(pb::CheckpointRoot());
  const auto read = [outcome, logs, key = options_.metadata_key, number = state_.roots(0).number(),
                     entry = state_.roots(0).entry()] {
    *outcome = read_root_entry(logs, key, number, entry);
  };
  options_.run(read, here([outcome](JournalAudit& self) { self.root_read(std::move(*outcome)); }));
}

void JournalAudit::root_read(result<pb::CheckpointRoot> root) {
  if (!root) {
    spdlog::warn("audit of the journal: the root of checkpoint {}: {}",
                 checkpoint_name(state_.roots(0).number()), root.error().message());
    auto& cycle = *state_.mutable_cycle();
    cycle.set_passed_over(cycle.passed_over() + 1);
    return checkpoint_over();
  }
  root_ = std::make_shared<pb::CheckpointRoot>(std::move(root).value());
  step_after(Duration(0));
}

void JournalAudit::mend() {
  auto job = std::make_shared<MendJob>();
  job->root = root_;
  const CheckpointPlace place{
      .metadata_key = options_.metadata_key, .journal = options_.journal, .sites = sites_};
  options_.run(
      [job, place, piece = state_.piece()] {
        job->done = [&]() -> result<MendedPiece> {
          TRY(const auto reader, PieceReader::open(*job->root, place));
          return reader->mend(piece);
        }();
      },
      here([job](JournalAudit& self) { self.mended(job->done); }));
}

void JournalAudit::mended(const result<MendedPiece>& piece) {
  auto& cycle = *state_.mutable_cycle();
  if (!piece) {
    note_finding(0, piece.error().text(), false);
    ask_for_checkpoint("a checkpoint cannot be read");
    return checkpoint_over();
  }
  cycle.set_columns(cycle.columns() + static_cast<uint64_t>(piece.value().whole) +
                    piece.value().wrong.size());
  cycle.set_bytes(cycle.bytes() + piece.value().bytes);
  cycle.set_passed_over(cycle.passed_over() + static_cast<uint64_t>(piece.value().away));
  for (const auto& wrong : piece.value().wrong) {
    const std::string reason =
        wrong.failure.empty() ? "" : ", and was not put again: " + wrong.failure;
    note_finding(wrong.site, wrong.text + reason, wrong.failure.empty());
    if (!wrong.failure.empty())
      ask_for_checkpoint("a column of a checkpoint could not be repaired");
  }
  state_.set_piece(state_.piece() + 1);
  save(false);
  step_after(pause_after(piece.value().bytes));
}

void JournalAudit::checkpoint_over() {
  checkpoints_.let_go(state_.roots(0).number());
  root_.reset();
  state_.mutable_roots()->erase(state_.mutable_roots()->begin());
  state_.set_piece(0);
  save(true);
  step_after(Duration(0));
}

}  // namespace datacloud
