// The instances of a module that is a model of its own, and their sockets in the design (sockets.py).

#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "Vmodule.h"
#include "Vtop.h"
#include "ports.h"
#include "verilated.h"
#include "verilated_syms.h"
#include "workers.h"

// All instances. A cycle is `clock`, then `settle`.
class Sockets {
  public:
    // With 0 threads, there is one for each `kPerThread` instances, as far as there are cores.
    Sockets(VerilatedContext& context, Vtop& top, uint32_t threads) : top_(top) {
#define EVENT(name) top_events_.push_back({&top.name});
        OUTPUT_EVENTS
#undef EVENT
        for (const auto& [name, scope] : *context.scopeNameMap())
            if (scope->varFind(SOCKET_VARIABLE))
                instances_.push_back(std::make_unique<Instance>(context, *scope, top_events_.data()));
        if (!threads) threads = std::min(std::thread::hardware_concurrency(), count() / kPerThread);
        workers_ = std::make_unique<Workers>(threads);
    }

    // The edge at which the clock of all models rises.
    void clock() {
        top_.clk = 1;
        workers_->run(count() + 1, [this](uint32_t i) {
            if (i == 0)
                top_.eval();
            else
                instances_[i - 1]->clock();
        });
    }

    // Pass on what changed at the ports until nothing does; the clock falls.
    void settle() {
        top_.clk = 0;
        bool first = true, changed = true;
        while (changed) {
            workers_->run(count(), [&](uint32_t i) { instances_[i]->enter(first); });
            for (auto& instance : instances_) instance->leave();
            changed = first;
            for (Event& event : top_events_) changed |= event.fire();
            if (changed) top_.eval();
            first = false;
        }
    }

  private:
    static constexpr uint32_t kPerThread = 8;

    uint32_t count() const { return static_cast<uint32_t>(instances_.size()); }

    // An input of a model whose change lets the ports of a group take their new values.
    struct Event {
        CData* signal;
        bool due = false;

        bool fire() {
            const bool fires = due;
            *signal ^= fires;
            due = false;
            return fires;
        }
    };

    // A port on both sides.
    struct Link {
        const void* from;
        void* to;
        uint32_t size;
        Event* event;

        void pass() {
            if (size == 1 ? *static_cast<const CData*>(from) == *static_cast<CData*>(to)
                          : !memcmp(from, to, size))
                return;
            memcpy(to, from, size);
            event->due = true;
        }
    };

    class Instance {
      public:
        Instance(VerilatedContext& context, const VerilatedScope& scope, Event* top_events)
            : model_(std::make_unique<Vmodule>(&context, scope.name())) {
            Vmodule& model = *model_;
#define EVENT(name) events_.push_back({&model.name});
            INPUT_EVENTS
#undef EVENT
#define PORT(name, group) \
    inputs_.push_back( \
        {scope.varFind(#name "_shown")->datap(), &model.name, sizeof(model.name), &events_[group]});
            SOCKET_INPUTS
#undef PORT
#define PORT(name, group) \
    outputs_.push_back( \
        {&model.name, scope.varFind(#name "_next")->datap(), sizeof(model.name), top_events + group});
            SOCKET_OUTPUTS
#undef PORT
        }

        void clock() {
            model_->clk = 1;
            model_->eval();
            model_->clk = 0;
        }

        void enter(bool falls) {
            for (Link& link : inputs_) link.pass();
            for (Event& event : events_) falls |= event.fire();
            if (falls) model_->eval();
        }

        void leave() {
            for (Link& link : outputs_) link.pass();
        }

      private:
        std::unique_ptr<Vmodule> model_;
        std::vector<Event> events_;
        std::vector<Link> inputs_, outputs_;
    };

    Vtop& top_;
    std::unique_ptr<Workers> workers_;
    std::vector<Event> top_events_;
    std::vector<std::unique_ptr<Instance>> instances_;
};
