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
void LocalCommitter::wait(std::function<void()> f, Where where) {
  store_.when_durable(store_.sequence(), [loop = loop_, fatal = fatal_, f = std::move(f),
                                          where](result<void> synced) mutable {
    if (!synced) {
      return loop->post(
          [fatal = std::move(fatal), error = Error(synced.error())] { fatal(error); });
    }
    where == Where::here ? loop->run_or_post(std::move(f)) : loop->post(std::move(f));
  });
}

}  // namespace datacloud
