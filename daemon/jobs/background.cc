// The threads, the budgets and the locks.
#include "daemon/jobs/background.h"

#include <algorithm>

namespace datacloud {
namespace {

constexpr int kPromptThreads = 2;           // fsck may hold one for long
constexpr double kDebtMax_s = 86'400;       // mounts may report anything
constexpr auto kBurst = milliseconds(250);  // a site's unused budget is kept this long

std::tm machine_time() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  return local;
}

}  // namespace

Background::Background(std::shared_ptr<EventLoop> loop, Limits limits)
    : loop_(std::move(loop)),
      state_(std::make_shared<State>()),
      reading_left_(std::max(1, limits.threads / 2)),
      rate_(limits.site_bytes_per_second_max),
      operations_rate_(limits.site_operations_per_second_max),
      windows_(std::move(limits.windows)),
      outside_rate_(limits.outside_bytes_per_second_max),
      local_time_(limits.local_time ? std::move(limits.local_time) : machine_time) {
  for (int i = 0; i < std::max(1, limits.threads); ++i) {
    threads_.emplace_back([this] { work(jobs_); });
  }
  for (int i = 0; i < kPromptThreads; ++i) {
    threads_.emplace_back([this] { work(prompt_jobs_); });
  }
}

Background::~Background() { stop(); }

void Background::stop() {
  {
    std::lock_guard lock(state_->mutex);
    state_->stopping = true;
    jobs_.clear();
    prompt_jobs_.clear();
    state_->changed.notify_all();
  }
  for (auto& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

void Background::submit(std::function<void()> job) {
  std::lock_guard lock(state_->mutex);
  if (state_->stopping) return;
  jobs_.push_back(std::move(job));
  state_->changed.notify_all();
}

void Background::submit_prompt(std::function<void()> job) {
  std::lock_guard lock(state_->mutex);
  if (state_->stopping) return;
  prompt_jobs_.push_back(std::move(job));
  state_->changed.notify_all();
}

void Background::work(Jobs& jobs) {
  for (;;) {
    std::function<void()> job;
    {
      std::unique_lock lock(state_->mutex);
      state_->changed.wait(lock, [&] { return state_->stopping || !jobs.empty(); });
      if (state_->stopping) return;
      job = std::move(jobs.front());
      jobs.pop_front();
    }
    job();
  }
}

// When the site's turn for so much begins; all before has been drawn, too.
MonotonicTime Background::draw(Balances& balances, SiteId site, uint64_t amount, uint64_t rate) {
  const auto now = monotonic_now();
  if (rate == 0 || amount == 0) return now;
  auto& free_at = balances[site];
  const auto begin = std::max<MonotonicTime>(free_at, now - kBurst);
  const double due_s = static_cast<double>(amount) / static_cast<double>(rate);
  free_at = begin + std::chrono::duration_cast<Duration>(
                        std::chrono::duration<double>(std::min(due_s, kDebtMax_s)));
  return begin;
}

void Background::spend(SiteId site, uint64_t bytes, uint32_t operations) {
  std::unique_lock lock(state_->mutex);
  state_->changed.wait(lock, [&] { return state_->stopping || !(state_->paused || state_->held); });
  if (state_->stopping) return;
  const auto begin = std::max(draw(bytes_free_at_, site, bytes, current_limit()),
                              draw(operations_free_at_, site, operations, operations_rate_));
  if (begin > monotonic_now()) {
    state_->changed.wait_until(lock, begin, [&] { return state_->stopping.load(); });
  }
}

void Background::foreground(SiteId site, uint64_t bytes, uint64_t operations, Duration span) {
  std::lock_guard lock(state_->mutex);
  const auto latest = monotonic_now() + span / 8 * 7;
  const auto take = [&](Balances& balances, uint64_t amount, uint64_t rate) {
    if (rate == 0 || amount == 0) return;
    const auto before = balances[site];
    draw(balances, site, amount, rate);
    // What background work owes by itself stays.
    balances[site] = std::max(before, std::min(balances[site], latest));
  };
  take(bytes_free_at_, bytes, current_limit());
  take(operations_free_at_, operations, operations_rate_);
}

void Background::begin_reading() {
  std::unique_lock lock(state_->mutex);
  state_->changed.wait(lock, [&] { return state_->stopping || reading_left_ > 0; });
  --reading_left_;
}

void Background::end_reading() {
  std::lock_guard lock(state_->mutex);
  ++reading_left_;
  state_->changed.notify_all();
}

void Background::sleep(Duration duration) {
  std::unique_lock lock(state_->mutex);
  state_->changed.wait_for(lock, duration, [&] { return state_->stopping.load(); });
}

void Background::pause(bool paused) {
  std::lock_guard lock(state_->mutex);
  state_->paused = paused;
  state_->changed.notify_all();
}

void Background::hold(bool held) {
  if (state_->held == held) return;
  std::lock_guard lock(state_->mutex);
  state_->held = held;
  state_->changed.notify_all();
}

void Background::set_limit(uint64_t site_bytes_per_second_max) {
  rate_ = site_bytes_per_second_max;
}

bool Background::window_open() const { return windows_.empty() || windows_.open_at(local_time_()); }

uint64_t Background::current_limit() const {
  const uint64_t rate = rate_;
  if (window_open()) return rate;
  return rate == 0 ? outside_rate_ : std::min(rate, outside_rate_);
}

bool Background::lock_stripe(StripeId stripe) {
  std::lock_guard lock(state_->mutex);
  return locked_.insert(stripe).second;
}

void Background::unlock_stripe(StripeId stripe) {
  std::lock_guard lock(state_->mutex);
  locked_.erase(stripe);
}

}  // namespace datacloud
