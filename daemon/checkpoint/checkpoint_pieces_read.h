// Reading pieces of a checkpoint back from the sites. One reader per checkpoint and thread.
#pragma once

#include <cstdint>
#include <future>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "common/base/ids.h"
#include "common/codes/erasure_code.h"
#include "common/store/object_store.h"
#include "daemon/checkpoint/checkpoint.h"
#include "daemon/checkpoint/checkpoint_columns.h"
#include "daemon/checkpoint/checkpoint_piece.h"

namespace datacloud {

// A piece whose columns were all read back.
struct MendedPiece {
  int whole = 0;       // columns that are what was written
  int away = 0;        // that could not be read, or were put nowhere
  uint64_t bytes = 0;  // read
  struct Wrong {
    SiteId site = 0;
    std::string text;     // which one, and how
    std::string failure;  // why it could not be put again; empty: it was
  };
  std::vector<Wrong> wrong;  // missing or damaged
};

class PieceReader {
 public:
  static constexpr size_t kProblemsMax = 20;

  // corrupt: the root is not one that can be (its code, its lists).
  static result<std::unique_ptr<PieceReader>> open(const pb::CheckpointRoot&,
                                                   const CheckpointPlace&);
  size_t pieces() const { return static_cast<size_t>(root_.pieces_size()); }
  // Begins to read what a piece most likely needs. One ahead is enough.
  void prefetch(size_t piece);
  // Its records, whatever columns they have to be put together from.
  result<Bytes> read(size_t piece);
  // Reads all columns. The set of those that are whole.
  ColumnSet whole_columns(size_t piece);
  // Reads all columns, and puts those again that are missing or damaged, at their sites. The
  // checkpoint must not be removed meanwhile. Memory: the piece twice.
  result<MendedPiece> mend(size_t piece);

  const ErasureCode& code() const { return *code_; }
  CheckpointReading& told() { return told_; }
  uint64_t missing() const { return missing_; }
  uint64_t damaged() const { return damaged_; }

 private:
  using Column = std::future<result<ReadReply>>;
  struct Fetched {
    size_t piece = 0;
    std::map<int, Column> columns;
  };

  PieceReader(const pb::CheckpointRoot& root, const CheckpointPlace& place,
              std::shared_ptr<const ErasureCode> code)
      : root_(root),
        place_(place),
        code_(std::move(code)),
        opener_(place.metadata_key, place.journal, root.number()) {}
  ColumnSet reachable(size_t piece) const;
  Column fetch(size_t piece, int column);
  // Whether the answer is the column that was written; says what is wrong otherwise.
  result<Bytes> check(size_t piece, int column, result<ReadReply>);
  void tell(size_t piece, int column, const std::string& reason);
  // What was sealed. corrupt: it is not that; unavailable: too few columns.
  result<Bytes> sealed_piece(size_t piece, ColumnSet whole, const std::vector<Bytes>& columns);
  result<void> put_again(size_t piece, int column, bool is_there,
                         const std::shared_ptr<const PieceColumns>& columns);

  const pb::CheckpointRoot& root_;
  const CheckpointPlace& place_;
  const std::shared_ptr<const ErasureCode> code_;
  PieceSealer opener_;
  std::unique_ptr<Fetched> ahead_;
  CheckpointReading told_;
  uint64_t missing_ = 0, damaged_ = 0;
};

}  // namespace datacloud
