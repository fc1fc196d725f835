// Columns that are there and whole, put together (checkpoint_pieces_read.h).
#include "daemon/checkpoint/checkpoint_pieces_read.h"

#include <fmt/format.h>

#include <bit>
#include <utility>

#include "common/store/object_store.h"
#include "daemon/checkpoint/checkpoint_columns.h"
#include "daemon/journal/log_bytes.h"
#include "daemon/journal/log_entry.h"

namespace datacloud {
namespace {

constexpr int kRootPiecesMax = 1 << 20;

}  // namespace

result<std::unique_ptr<PieceReader>> PieceReader::open(const pb::CheckpointRoot& root,
                                                       const CheckpointPlace& place) {
  const auto bad = [&](const std::string& why) {
    return failure(Errc::corrupt, fmt::format("the root of checkpoint {} {}",
                                              checkpoint_name(root.number()), why));
  };
  auto code = make_erasure_code(root.code());
  if (!code) return bad("names an unknown code: " + code.error().text());
  if (root.position().size() != journal::kPositionBytes) return bad("has no position");
  if (root.pieces_size() == 0 || root.pieces_size() > kRootPiecesMax) return bad("has no pieces");
  for (const auto& piece : root.pieces()) {
    const bool sound = piece.bytes() <= kCheckpointPieceBytesMax && piece.hash().size() == 32 &&
                       piece.column_bytes() == piece_column_bytes(*code.value(), piece.bytes()) &&
                       piece.sites_size() == code.value()->n() &&
                       piece.column_hashes_size() == code.value()->n();
    if (!sound) return bad("does not describe its pieces");
  }
  return std::unique_ptr<PieceReader>(new PieceReader(root, place, std::move(code).value()));
}

ColumnSet PieceReader::reachable(size_t piece) const {
  ColumnSet set = 0;
  const auto& about = root_.pieces(static_cast<int>(piece));
  for (int c = 0; c < code_->n(); ++c) {
    const Site* site = about.sites(c) == 0 ? nullptr : place_.sites.find(about.sites(c));
    if (site != nullptr) set |= ColumnSet{1} << c;
  }
  return set;
}

PieceReader::Column PieceReader::fetch(size_t piece, int column) {
  auto promise = std::make_shared<std::promise<result<ReadReply>>>();
  auto future = promise->get_future();
  const auto& about = root_.pieces(static_cast<int>(piece));
  Site* site = place_.sites.find(about.sites(column));
  // One byte more than there should be: a longer object is not it.
  site->store().read(column_name(root_.number(), piece, column),
                     {{0, uint64_t{about.column_bytes()} + 1}}, false,
                     {monotonic_now() + place_.deadline, Purpose::journal},
                     [promise](result<ReadReply> reply) { promise->set_value(std::move(reply)); });
  return future;
}

void PieceReader::tell(size_t piece, int column, const std::string& reason) {
  if (told_.problems.size() >= kProblemsMax) return;
  const SiteId id = root_.pieces(static_cast<int>(piece)).sites(column);
  const Site* site = id == 0 ? nullptr : place_.sites.find(id);
  told_.problems.push_back(fmt::format("column {} of piece {}{}: {}", column, piece,
                                       site == nullptr ? "" : " at site " + site->name(), reason));
}

result<Bytes> PieceReader::check(size_t piece, int column, result<ReadReply> reply) {
  if (!reply) {
    ++missing_;
    tell(piece, column, reply.error().message());
    return failure(reply.error());
  }
  const auto& about = root_.pieces(static_cast<int>(piece));
  Bytes bytes = reply.value().ranges.empty() ? Bytes() : std::move(reply.value().ranges.front());
  told_.bytes_read += bytes.size();
  const auto hash = journal::hash_of(bytes);
  if (bytes.size() == about.column_bytes() &&
      as_text(ByteView(hash)) == about.column_hashes(column)) {
    return bytes;
  }
  ++damaged_;
  tell(piece, column, "it is not what was written");
  return failure(Errc::corrupt, "it is not what was written");
}

void PieceReader::prefetch(size_t piece) {
  if (piece >= pieces()) return;
  const auto wanted = code_->minimum_to_decode(data_columns(*code_), reachable(piece), {});
  if (!wanted) return;
  ahead_ = std::make_unique<Fetched>();
  ahead_->piece = piece;
  for (int c = 0; c < code_->n(); ++c) {
    if (contains(wanted.value(), c)) ahead_->columns.emplace(c, fetch(piece, c));
  }
}

result<Bytes> PieceReader::read(size_t piece) {
  const auto& about = root_.pieces(static_cast<int>(piece));
  std::map<int, Column> asked;
  if (ahead_ && ahead_->piece == piece) asked = std::move(ahead_->columns);
  ahead_.reset();
  ColumnSet available = reachable(piece), whole = 0;
  std::vector<Bytes> columns(static_cast<size_t>(code_->n()));
  for (;;) {
    const auto chosen = code_->minimum_to_decode(data_columns(*code_), available, {});
    if (!chosen) {
      std::string text = fmt::format(
          "piece {} of checkpoint {} cannot be put together: the code {} needs {} columns, {} are "
          "there and whole",
          piece, checkpoint_name(root_.number()), code_->name(), code_->k(),
          std::popcount(available));
      for (const auto& problem : told_.problems) text += "\n  " + problem;
      for (int c = 0; c < code_->n(); ++c) {
        if (contains(reachable(piece), c)) continue;
        text += fmt::format("\n  column {}: {}", c,
                            about.sites(c) == 0
                                ? "it was put nowhere"
                                : fmt::format("site number {} is not there", about.sites(c)));
      }
      return failure(Errc::unavailable, text);
    }
    for (int c = 0; c < code_->n(); ++c) {
      if (contains(chosen.value(), c) && !contains(whole, c) && !asked.contains(c)) {
        asked.emplace(c, fetch(piece, c));
      }
    }
    for (auto& [c, column] : asked) {
      auto checked = check(piece, c, column.get());
      if (checked) {
        columns[static_cast<size_t>(c)] = std::move(checked).value();
        whole |= ColumnSet{1} << c;
      } else {
        available &= ~(ColumnSet{1} << c);
      }
    }
    asked.clear();
    if ((chosen.value() & ~whole) == 0) break;
  }
  TRY(const Bytes sealed, sealed_piece(piece, whole, columns));
  return opener_.open(static_cast<uint32_t>(piece), sealed);
}

ColumnSet PieceReader::whole_columns(size_t piece) {
  std::map<int, Column> asked;
  const ColumnSet there = reachable(piece);
  for (int c = 0; c < code_->n(); ++c) {
    if (contains(there, c)) asked.emplace(c, fetch(piece, c));
  }
  ColumnSet whole = 0;
  for (int c = 0; c < code_->n(); ++c) {
    const auto column = asked.find(c);
    if (column == asked.end()) {
      ++missing_;
      tell(piece, c, "it was put nowhere, or its site has left");
    } else if (check(piece, c, column->second.get())) {
      whole |= ColumnSet{1} << c;
    }
  }
  return whole;
}

}  // namespace datacloud
