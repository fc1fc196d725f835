// Waiting for an append (log_store.h).
#include "daemon/journal/log_store.h"

#include <future>
#include <memory>

namespace datacloud::journal {

result<void> append_now(LogStore& store, const Epoch& epoch, LogBatch batch) {
  auto answer = std::make_shared<std::promise<result<void>>>();
  auto future = answer->get_future();
  store.append(epoch, std::move(batch),
               [answer](result<void> r) { answer->set_value(std::move(r)); });
  return future.get();
}

}  // namespace datacloud::journal
