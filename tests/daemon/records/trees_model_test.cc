// Random names beside random trees: every errno against a model that knows where borders are, while
// conversions run and are restarted; every inode's tree, every counter and record against what the
// model says and what fsck counts.
#include "tests/daemon/records/namespace_model.h"
#include "tests/daemon/records/trees_rig.h"

namespace datacloud {
namespace {

class TreesModelTest : public TreesTest {
 protected:
  // The tree of what is in the directory.
  uint32_t model_tree(uint64_t directory) const {
    for (uint64_t at = directory; at != 1 && at != 0; at = model_.parent_of(at)) {
      const auto it = roots_.find(at);
      if (it != roots_.end()) return it->second;
    }
    return 0;
  }
  bool live_directory(uint64_t ino) const {
    return model_.is_directory(ino) && model_.nodes.at(ino).nlink > 0;
  }
  uint64_t entry(uint64_t directory, const std::string& name) const {
    const auto& entries = model_.nodes.at(directory).entries;
    const auto it = entries.find(name);
    return it != entries.end() ? it->second : 0;
  }

  uint64_t pick_inode() {
    auto it = model_.nodes.begin();
    std::advance(it, static_cast<long>(random_() % model_.nodes.size()));
    return it->first;
  }
  uint64_t pick_directory() {
    for (int i = 0; i < 5; ++i) {
      const uint64_t ino = pick_inode();
      if (live_directory(ino)) return ino;
    }
    return 1;
  }
  std::string pick_name() { return std::string(1, static_cast<char>('a' + random_() % 6)); }

  void expect(int wanted, const std::string& what, int got) {
    ++outcomes_[what][wanted];
    ASSERT_EQ(got, wanted) << what;
  }

  void do_create() {
    pb::CreateRequest request;
    request.set_parent(pick_directory());
    request.set_name(pick_name());
    request.set_mode(random_() % 2 ? S_IFDIR | 0755 : S_IFREG | 0644);
    request.set_exclusive(true);
    const uint64_t ino = next_ino_++;
    const int e = model_.create(request.parent(), request.name(), request.mode(), 0, 0, "", ino, 0);
    const auto made = apply([&](Transaction& txn) { return datacloud::create(txn, request, ino); });
    expect(e, "create", errno_of(made));
    if (!made || !area_ || area_->removing() || S_ISDIR(request.mode())) return;
    if (tree_of(ino) != area_->outside || model_tree(request.parent()) != area_->id) return;
    if (view_) {
      created_.push_back(ino);
    } else {
      members_.insert(ino);
    }
  }

  int link_errno(uint64_t ino, uint64_t parent, const std::string& name) {
    const int e = NamespaceModel(model_).link(ino, parent, name, 0);
    if (e != 0) return e;
    const uint32_t to = model_tree(parent);
    const uint32_t carried = tree_of(ino);
    const bool either =
        area_ && carried == area_->outside && (to == area_->id || to == area_->outside);
    if (either && area_->removing()) return 0;  // both sides become one
    if (either && area_->members == nullptr) return EXDEV;
    if (area_ && area_->removing()) return carried == to ? 0 : EXDEV;
    return model_tree(model_.parent_of(ino)) == to ? 0 : EXDEV;
  }
  void do_link() {
    const uint64_t ino = pick_inode(), parent = pick_directory();
    const std::string name = pick_name();
    const int e = link_errno(ino, parent, name);
    if (e == 0) model_.link(ino, parent, name, 0);
    expect(e, "link", add_link(ino, parent, name));
  }

  void do_unlink() {
    const uint64_t parent = pick_directory();
    const std::string name = pick_name();
    const bool directory = random_() % 2 == 0;
    const uint64_t ino = entry(parent, name);
    int e = NamespaceModel(model_).unlink(parent, name, directory, 0);
    if (e == 0 && area_ && area_->root == ino) e = EBUSY;
    if (e == 0) {
      model_.unlink(parent, name, directory, 0);
      roots_.erase(ino);
    }
    expect(e, "unlink", remove(parent, name, directory));
  }

  void do_rename() {
    const uint64_t from = pick_directory(), to = pick_directory();
    std::string name = pick_name();
    const std::string new_name = pick_name();
    const auto& entries = model_.nodes[from].entries;
    if (!entries.empty() && random_() % 4) name = entries.begin()->first;
    const bool exchange = random_() % 3 == 0;
    const uint64_t source = entry(from, name), target = entry(to, new_name);
    int e = 0;
    if (source == 0) {
      e = ENOENT;
    } else if (model_tree(from) != model_tree(to)) {
      e = EXDEV;
    } else if (area_ && !exchange && target == area_->root && target != source) {
      e = EBUSY;
    } else {
      e = model_.rename(from, name, to, new_name, false, exchange, 0);
      if (e == 0 && target != source && !exchange) roots_.erase(target);
    }
    expect(e, "rename", move(from, name, to, new_name, exchange ? 2 : 0));
  }

  void begin_something() {
    if (area_) return;
    const uint64_t ino = pick_directory();
    if (roots_.contains(ino) || (random_() % 5 == 0 && !roots_.empty())) {
      auto it = roots_.begin();
      std::advance(it, static_cast<long>(random_() % roots_.size()));
      const auto [root, id] = *it;
      bool nested = false;
      for (const auto& [other, other_id] : roots_) {
        nested |= other != root && model_tree(model_.parent_of(other)) == id;
      }
      const auto begun = try_remove(root);
      ++outcomes_["tree remove"][begun ? 0 : 1];
      ASSERT_EQ(begun.has_value(), !nested);
      if (begun) begin(begun);
    } else if (ino != 1) {
      const auto begun = try_create(ino);
      ASSERT_TRUE(begun) << begun.error().message();
      roots_[ino] = begin(begun);
      ++outcomes_["tree create"][0];
    }
  }

  // Names on both sides, as the snapshot has them: the model has none newer, as the border is shut.
  bool linked_across() const {
    for (const auto& [ino, node] : model_.nodes) {
      if (S_ISDIR(node.mode)) continue;
      bool inside = false, outside = false;
      for (const auto& [directory, other] : model_.nodes) {
        for (const auto& [name, child] : other.entries) {
          if (child == ino) (model_tree(directory) == area_->id ? inside : outside) = true;
        }
      }
      if (inside && outside) return true;
    }
    return false;
  }

  void go_on() {
    if (!area_) return;
    if (view_) {
      const InodeId root = area_->root;
      const bool expected = at_begin_across_;
      const auto obstacle = check({.table_files = 1 + random_() % 3});
      ++outcomes_["check"][obstacle ? 1 : 0];
      ASSERT_EQ(obstacle.has_value(), expected) << obstacle.value_or("");
      if (obstacle) roots_.erase(root);
      return;
    }
    const InodeId root = area_->root;
    const bool removing = area_->removing();
    if (random_() % 8 == 0) walk_.reset();  // a restart
    if (step(1 + random_() % 3) && removing) roots_.erase(root);
  }

  void compare() {
    const auto txn = store_->begin();
    for (const auto& [ino, node] : model_.nodes) {
      if (node.nlink == 0 || ino == 1) continue;
      const uint32_t got = get_inode(txn, ino).value().tree();
      const auto root = roots_.find(ino);
      const uint32_t right =
          root != roots_.end() ? root->second : model_tree(model_.parent_of(ino));
      if (area_ && (right == area_->id || (area_->removing() && right == area_->outside))) {
        EXPECT_TRUE(got == area_->id || got == area_->outside) << ino;
      } else {
        EXPECT_EQ(got, right) << ino;
      }
    }
    for (const auto& [root, id] : roots_) {
      const auto record = trees::find(txn, id).value();
      ASSERT_TRUE(record);
      EXPECT_EQ(record->root(), root);
      if (!area_) {
        EXPECT_EQ(record->parent(), model_tree(model_.parent_of(root)));
      }
    }
    expect_sound();
  }

  void reclaim_some() {
    std::vector<uint64_t> removed;
    for (const auto& [ino, node] : model_.nodes) {
      if (node.nlink == 0 && random_() % 2) removed.push_back(ino);
    }
    for (const uint64_t ino : removed) {
      ASSERT_TRUE(reclaim(ino));
      model_.nodes.erase(ino);
    }
  }

  void walk_on() {
    switch (random_() % 12) {
      case 0:
      case 1:
      case 2:
        do_create();
        break;
      case 3:
      case 4:
        do_link();
        break;
      case 5:
        do_unlink();
        break;
      case 6:
      case 7:
      case 8:
        do_rename();
        break;
      case 9:
        if (random_() % 4 == 0 && !area_) {
          begin_something();
          at_begin_across_ = area_ && view_ && linked_across();
        }
        break;
      default:
        go_on();
    }
  }

  bool has_met_all() {
    return outcomes_["rename"][EXDEV] > 5 && outcomes_["rename"][0] > 50 &&
           outcomes_["link"][EXDEV] > 3 && outcomes_["link"][0] > 5 &&
           outcomes_["tree create"][0] > 5 && outcomes_["tree remove"][0] > 0 &&
           outcomes_["check"][0] > 1;
  }

  std::map<std::string, std::map<int, int>> outcomes_;
  NamespaceModel model_;
  std::map<uint64_t, uint32_t> roots_;  // trees, by their directories
  bool at_begin_across_ = false;
  std::mt19937_64 random_{test_seed()};
};

TEST_F(TreesModelTest, BehavesLikeTheModel) {
  // Until the walk has met what it is meant to meet: some of it is rare.
  for (int round = 0; round < 8000 || (round < 40'000 && !has_met_all()); ++round) {
    walk_on();
    if (round % 80 == 0) compare();
    if (round % 200 == 0) reclaim_some();
    ASSERT_FALSE(HasFailure()) << "step " << round;
  }
  while (area_ && !HasFailure()) go_on();
  compare();
  EXPECT_TRUE(has_met_all());
}

}  // namespace
}  // namespace datacloud
