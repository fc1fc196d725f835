// Pieces of a checkpoint whose columns are read back, and put again where they are not what was
// written (checkpoint_pieces_read.h).
#include <bit>
#include <chrono>
#include <map>
#include <utility>

#include "common/store/object_store.h"
#include "daemon/checkpoint/checkpoint_columns.h"
#include "daemon/checkpoint/checkpoint_pieces_read.h"
#include "daemon/journal/log_entry.h"

namespace datacloud {
namespace {

template <class Call>
result<void> wait_for(Call call) {
  auto promise = std::make_shared<std::promise<result<void>>>();
  auto future = promise->get_future();
  call([promise](result<void> done) { promise->set_value(std::move(done)); });
  return future.get();
}

}  // namespace

result<Bytes> PieceReader::sealed_piece(size_t piece, ColumnSet whole,
                                        const std::vector<Bytes>& columns) {
  const auto& about = root_.pieces(static_cast<int>(piece));
  TRY(auto sealed, decode_piece(*code_, whole, columns, about.column_bytes(), about.bytes()));
  const auto hash = journal::hash_of(sealed);
  if (as_text(ByteView(hash)) == about.hash()) return sealed;
  return failure(Errc::corrupt, "piece " + std::to_string(piece) + " of checkpoint " +
                                    checkpoint_name(root_.number()) + " is not what was written");
}

// Names are put exclusively, so what is damaged goes first. The bytes are those that were there: an
// earlier put of this name that lands late does no harm.
result<void> PieceReader::put_again(size_t piece, int column, bool is_there,
                                    const std::shared_ptr<const PieceColumns>& columns) {
  const auto& about = root_.pieces(static_cast<int>(piece));
  Site* site = place_.sites.find(about.sites(column));
  if (site == nullptr) return failure(Errc::away, "its site has left the cloud");
  const std::string name = column_name(root_.number(), piece, column);
  const auto how = [&] { return OpOptions{monotonic_now() + place_.deadline, Purpose::journal}; };
  if (is_there) {
    TRY(wait_for([&](auto done) { site->store().remove(name, how(), std::move(done)); }));
  }
  Payload payload;
  payload.parts.push_back(columns->column(column));
  payload.owner = columns;
  return wait_for(
      [&](auto done) { site->store().put(name, std::move(payload), {}, how(), std::move(done)); });
}

result<MendedPiece> PieceReader::mend(size_t piece) {
  MendedPiece mended;
  const auto& about = root_.pieces(static_cast<int>(piece));
  std::map<int, Column> asked;
  for (int c = 0; c < code_->n(); ++c) {
    const Site* site = about.sites(c) == 0 ? nullptr : place_.sites.find(about.sites(c));
    if (site != nullptr && site->up()) asked.emplace(c, fetch(piece, c));
  }
  mended.away = code_->n() - static_cast<int>(asked.size());
  std::vector<Bytes> columns(static_cast<size_t>(code_->n()));
  ColumnSet whole = 0;
  std::map<int, bool> wrong;  // by column: whether something is there
  for (auto& [c, column] : asked) {
    auto got = check(piece, c, column.get());
    if (got) {
      mended.bytes += got.value().size();
      columns[static_cast<size_t>(c)] = std::move(got).value();
      whole |= ColumnSet{1} << c;
    } else if (got.error().is(Errc::not_found) || got.error().is(Errc::corrupt)) {
      wrong[c] = got.error().is(Errc::corrupt);
    } else {
      ++mended.away;
    }
  }
  mended.whole = std::popcount(whole);
  if (wrong.empty()) return mended;
  auto sealed = sealed_piece(piece, whole, columns);
  auto again = std::make_shared<PieceColumns>();
  if (sealed) *again = encode_piece(*code_, sealed.value());
  for (const auto& [c, is_there] : wrong) {
    const Site& site = *place_.sites.find(about.sites(c));
    const auto done = sealed ? put_again(piece, c, is_there, again) : failure(sealed.error());
    mended.wrong.push_back({site.id(),
                            "column " + std::to_string(c) + " of piece " + std::to_string(piece) +
                                " of checkpoint " + checkpoint_name(root_.number()) + " at site " +
                                site.name() + (is_there ? " is damaged" : " is missing"),
                            done ? "" : done.error().message()});
  }
  return mended;
}

}  // namespace datacloud
