// Commits to one store, whose failure is the daemon's end.
#include "daemon/metadata/committer.h"

namespace datacloud {

result<void> LocalCommitter::apply(Transaction&& txn) {
  const auto applied = store_.commit(std::move(txn));
  if (applied) return success();
  fatal_(applied.error());
  return failure(applied.error());
}

// The store answers on its sync thread, possibly when this object is gone already.
void LocalCommitter::when_durable(std::function<void()> f) {
  store_.when_durable(store_.sequence(), [loop = loop_, fatal = fatal_,
                                          f = std::move(f)](result<void> synced) mutable {
    loop->post([fatal = std::move(fatal), f = std::move(f), synced = std::move(synced)] {
      if (!synced) return fatal(synced.error());
      f();
    });
  });
}

}  // namespace datacloud
