//! What tests cost, and when a gram is given up.

/// What the tests in one call have cost.
pub(super) struct Spending {
    /// What may be spent before anyone is asked for whom.
    allowance: usize,
    /// What may be spent on each chain of looks, for each of them.
    each: usize,
    /// What was spent since on each chain, by its first look; empty until the allowance is used up.
    spent: Vec<usize>,
}

impl Spending {
    pub(super) fn new(bytes: usize, budget: usize) -> Self {
        let each = bytes.saturating_mul(budget);
        Self {
            allowance: each,
            each,
            spent: Vec::new(),
        }
    }

    /// What a single test may cost. One that costs more has no answer, and its gram is given up.
    pub(super) fn limit(&self) -> usize {
        // No less than the test of an ordinary signature, however few bytes there are.
        self.each.max(1 << 10)
    }

    /// Ends the tests of a chain.
    #[cold]
    pub(super) fn give_up(&mut self, first: usize, looks: usize) {
        if self.spent.is_empty() {
            self.spent = vec![0; looks];
        }
        self.spent[first] = usize::MAX;
    }

    #[inline(always)]
    pub(super) fn is_given_up(&self, first: usize) -> bool {
        self.spent.get(first) == Some(&usize::MAX)
    }

    #[inline(always)]
    pub(super) fn charge(&mut self, first: usize, windows: usize, cost: usize, looks: usize) {
        if cost <= self.allowance {
            self.allowance -= cost;
        } else {
            self.charge_gram(first, windows, cost, looks);
        }
    }

    #[cold]
    pub(super) fn charge_gram(&mut self, first: usize, windows: usize, cost: usize, looks: usize) {
        self.allowance = 0;
        if self.spent.is_empty() {
            self.spent = vec![0; looks];
        }
        let spent = &mut self.spent[first];
        *spent = spent.saturating_add(cost);
        if *spent > self.each.saturating_mul(windows) {
            self.give_up(first, looks);
        }
    }

    /// The chains whose tests were given up, by their first looks.
    pub(super) fn given_up(&self) -> impl Iterator<Item = usize> {
        let spent = self.spent.iter().enumerate();
        let given_up = spent.filter(|(_, spent)| **spent == usize::MAX);
        given_up.map(|(first, _)| first)
    }
}
