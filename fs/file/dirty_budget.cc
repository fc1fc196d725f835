// Waiting for room among dirty data.
#include "fs/file/dirty_budget.h"

#include <algorithm>

#include "fs/base/interruption.h"

namespace datacloud {

result<void> DirtyBudget::wait_for_room(uint64_t bytes,
                                        const std::function<result<void>()>& stuck) {
  std::unique_lock lock(mutex_);
  while (used_ > 0 && used_ + bytes > bytes_max_) {
    lock.unlock();
    TRY(stuck());
    lock.lock();
    TRY(auto fits, wait_interruptibly_for(room_, lock, milliseconds(100), [&] {
          return used_ == 0 || used_ + bytes <= bytes_max_;
        }));
    if (fits) break;
  }
  return success();
}

void DirtyBudget::add(uint64_t bytes) {
  std::lock_guard lock(mutex_);
  used_ += bytes;
}

void DirtyBudget::remove(uint64_t bytes) {
  {
    std::lock_guard lock(mutex_);
    used_ -= std::min(used_, bytes);
  }
  room_.notify_all();
}

uint64_t DirtyBudget::used() const {
  std::lock_guard lock(mutex_);
  return used_;
}

bool DirtyBudget::under_pressure() const {
  std::lock_guard lock(mutex_);
  return used_ > bytes_max_ / 2;
}

}  // namespace datacloud
