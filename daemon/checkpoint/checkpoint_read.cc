// Reading and verifying whole checkpoints (checkpoint.h).
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <future>
#include <map>
#include <utility>

#include "daemon/checkpoint/checkpoint.h"
#include "daemon/checkpoint/checkpoint_columns.h"
#include "daemon/checkpoint/checkpoint_pieces_read.h"

namespace datacloud {
namespace {

result<void> stopped(const CheckpointPlace& place) {
  if (!place.stop || !place.stop()) return success();
  return failure(Errc::unavailable, "the checkpoint was not read to its end: told to stop");
}

// The records of a piece. The columns of the next one are asked for.
result<Bytes> read_piece(PieceReader& reader, size_t piece) {
  auto records = reader.read(piece);
  if (records) reader.prefetch(piece + 1);
  return records;
}

}  // namespace

result<CheckpointReading> read_checkpoint(const pb::CheckpointRoot& root,
                                          const CheckpointPlace& place, const RecordVisitor& visit,
                                          const std::function<void(size_t)>& progress) {
  TRY(auto reader, PieceReader::open(root, place));
  uint64_t records = 0, bytes = 0;
  // Putting a piece together takes as long as what is done with its records: two threads.
  const auto ask = [&reader](size_t piece) { return read_piece(*reader, piece); };
  auto next = std::async(std::launch::async, ask, size_t{0});
  for (size_t piece = 0; piece < reader->pieces(); ++piece) {
    TRY(const Bytes content, next.get());
    TRY(stopped(place));
    if (piece + 1 < reader->pieces()) next = std::async(std::launch::async, ask, piece + 1);
    bytes += content.size();
    TRY(visit_records(content, [&](std::string_view key, std::string_view value) {
      ++records;
      return visit(key, value);
    }));
    if (progress) progress(piece);
  }
  reader->told().records = records;
  reader->told().bytes = bytes;
  if (reader->told().records != root.records()) {
    return failure(
        Errc::corrupt,
        fmt::format("checkpoint {} has {} records and not the {} that its root says",
                    checkpoint_name(root.number()), reader->told().records, root.records()));
  }
  return std::move(reader->told());
}

result<CheckpointReading> read_checkpoint_start(const pb::CheckpointRoot& root,
                                                const CheckpointPlace& place,
                                                const RecordVisitor& visit) {
  TRY(auto reader, PieceReader::open(root, place));
  TRY(const Bytes records, reader->read(0));
  TRY(visit_records(records, [&](std::string_view key, std::string_view value) {
    ++reader->told().records;
    return visit(key, value);
  }));
  return std::move(reader->told());
}

result<CheckpointHealth> verify_checkpoint(const pb::CheckpointRoot& root,
                                           const CheckpointPlace& place) {
  TRY(auto reader, PieceReader::open(root, place));
  const ErasureCode& code = reader->code();
  CheckpointHealth health;
  health.losses_survived = -1;
  bool readable = true;
  int survived = static_cast<int>(place.sites.size());
  for (size_t piece = 0; piece < reader->pieces(); ++piece) {
    TRY(stopped(place));
    const ColumnSet whole = reader->whole_columns(piece);
    std::map<SiteId, int> counts;
    for (int c = 0; c < code.n(); ++c) {
      if (contains(whole, c)) ++counts[root.pieces(static_cast<int>(piece)).sites(c)];
    }
    std::vector<int> of_sites;
    for (const auto& [site, count] : counts) of_sites.push_back(count);
    const int lost = code.n() - std::popcount(whole);
    survived = std::min(survived, survived_losses(of_sites, code.guaranteed_tolerance() - lost));
    readable = readable && code.minimum_to_decode(data_columns(code), whole, {}).has_value();
    health.columns += static_cast<uint64_t>(code.n());
  }
  if (readable) health.losses_survived = survived;
  health.missing = reader->missing();
  health.damaged = reader->damaged();
  health.problems = std::move(reader->told().problems);
  return health;
}

}  // namespace datacloud
