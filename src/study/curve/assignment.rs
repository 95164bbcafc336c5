//! The linear assignment problem, solved exactly: each row gets a column of its own at the least
//! total cost.
//!
//! R. Jonker and A. Volgenant, *A shortest augmenting path algorithm for dense and sparse linear
//! assignment problems*, Computing 38 (1987): column reduction, reduction transfer and two rounds
//! of augmenting row reduction assign most rows; shortest augmenting paths (Dijkstra on reduced
//! costs) assign the rest. The duals prove optimality; `certify` checks them independently of the
//! solver.

use std::fmt;

/// The column of each row, and the duals: u_i + v_j <= C_ij everywhere, with equality where row i
/// has column j.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// `[n]`: the column of each row.
    pub columns: Vec<usize>,
    /// `[n]`: the duals of the rows.
    pub u: Vec<f64>,
    /// `[n]`: the duals of the columns.
    pub v: Vec<f64>,
}

/// The largest |C_ij|: beyond it a difference of duals might overflow.
const LARGEST: f64 = 1e300;

/// A cost that cannot be summed: infinite, NaN, or beyond 1e300.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfRange {
    /// Its row.
    pub row: usize,
    /// Its column.
    pub column: usize,
}

impl fmt::Display for OutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the cost of row {} and column {} is not between -{LARGEST:e} and {LARGEST:e}",
            self.row, self.column
        )
    }
}

impl std::error::Error for OutOfRange {}

/// The assignment of least total cost; `cost` is [n, n], row-major. Deterministic, also for ties.
///
/// # Panics
/// If `cost` is not [n, n].
pub fn assign(cost: &[f64], n: usize) -> Result<Assignment, OutOfRange> {
    assert_eq!(cost.len(), n * n, "costs are not [{n}, {n}]");
    if let Some(at) = cost.iter().position(|c| !(-LARGEST..=LARGEST).contains(c)) {
        return Err(OutOfRange { row: at / n, column: at % n });
    }
    let mut solver =
        Solver { cost, n, columns: vec![NONE; n], rows: vec![NONE; n], v: vec![0.0; n] };
    let mut free = solver.reduce_columns();
    for _ in 0..2 {
        free = solver.reduce_rows(free);
    }
    let mut search = Search::new(n);
    for row in free {
        solver.augment(row, &mut search);
    }
    let Solver { columns, v, .. } = solver;
    let u = columns.iter().enumerate().map(|(i, &j)| cost[i * n + j] - v[j]).collect();
    Ok(Assignment { columns, u, v })
}

/// No row, or no column.
const NONE: usize = usize::MAX;

struct Solver<'a> {
    cost: &'a [f64],
    n: usize,
    /// The column of each row.
    columns: Vec<usize>,
    /// The row of each column.
    rows: Vec<usize>,
    v: Vec<f64>,
}

impl Solver<'_> {
    fn row(&self, i: usize) -> &[f64] {
        &self.cost[i * self.n..(i + 1) * self.n]
    }

    /// Lowers each column by its least cost and assigns it to that row if the row is free; then
    /// moves the slack of rows with a single column to that column's dual. Returns the free rows,
    /// ascending.
    fn reduce_columns(&mut self) -> Vec<usize> {
        let mut cheapest = vec![0; self.n];
        self.v.copy_from_slice(self.cost.get(..self.n).unwrap_or_default());
        for i in 1..self.n {
            let row = &self.cost[i * self.n..(i + 1) * self.n];
            for ((&c, least), cheapest) in row.iter().zip(&mut self.v).zip(&mut cheapest) {
                if c < *least {
                    (*least, *cheapest) = (c, i);
                }
            }
        }
        let mut wanted = vec![0u32; self.n];
        for (j, &i) in cheapest.iter().enumerate().rev() {
            wanted[i] += 1;
            if self.columns[i] == NONE {
                (self.columns[i], self.rows[j]) = (j, i);
            }
        }
        for (i, wanted) in wanted.into_iter().enumerate() {
            let own = self.columns[i];
            if wanted == 1 {
                let others = self.row(i).iter().zip(&self.v).enumerate().filter(|&(j, _)| j != own);
                let slack = others.fold(f64::INFINITY, |least, (_, (c, v))| least.min(c - v));
                if slack.is_finite() {
                    self.v[own] -= slack;
                }
            }
        }
        (0..self.n).filter(|&i| self.columns[i] == NONE).collect()
    }

    /// Assigns each free row its cheapest column and lowers that column's dual until the second
    /// cheapest is as good; the row that had the column becomes free. Returns the free rows.
    fn reduce_rows(&mut self, free: Vec<usize>) -> Vec<usize> {
        let (mut pending, mut left) = (free, Vec::new());
        pending.reverse();
        // A row that loses its column to a lowered dual is processed next. Where duals fall by
        // small steps this is a slow auction, so after a few steps per row the augmenting paths
        // take over.
        let mut steps = 4 * self.n;
        while let Some(i) = pending.pop() {
            let ((mut j, least), (second_j, second)) = self.two_cheapest(i);
            let lowered = self.v[j] - (second - least);
            let strictly = lowered < self.v[j] && lowered.is_finite();
            if strictly {
                self.v[j] = lowered;
            } else if self.rows[j] != NONE && second_j != NONE {
                j = second_j;
            }
            let displaced = self.rows[j];
            (self.columns[i], self.rows[j]) = (j, i);
            if displaced != NONE {
                self.columns[displaced] = NONE;
                if strictly && steps > 0 {
                    steps -= 1;
                    pending.push(displaced);
                } else {
                    left.push(displaced);
                }
            }
        }
        left
    }

    /// The columns of row `i` with the two least reduced costs, and these costs; the second is
    /// (NONE, infinity) if n = 1.
    fn two_cheapest(&self, i: usize) -> ((usize, f64), (usize, f64)) {
        let (mut first, mut second) = ((NONE, f64::INFINITY), (NONE, f64::INFINITY));
        for (j, (c, v)) in self.row(i).iter().zip(&self.v).enumerate() {
            let reduced = c - v;
            if reduced < second.1 {
                second = (j, reduced);
                if reduced < first.1 {
                    (first, second) = (second, first);
                }
            }
        }
        (first, second)
    }

    /// Assigns the free row `start` along a shortest path of reduced costs to a free column.
    fn augment(&mut self, start: usize, search: &mut Search) {
        let Search { distance, before, order } = search;
        for (j, distance) in distance.iter_mut().enumerate() {
            *distance = self.cost[start * self.n + j] - self.v[j];
        }
        before.fill(start);
        // order[..done] are final and their rows scanned; order[done..near] are final at the least
        // distance.
        let (mut done, mut near, mut least) = (0, 0, 0.0);
        let mut finished = 0;
        let end = 'search: loop {
            if done == near {
                finished = done;
                least = f64::INFINITY;
                for k in done..self.n {
                    let j = order[k];
                    if distance[j] <= least {
                        if distance[j] < least {
                            (least, near) = (distance[j], done);
                        }
                        order.swap(k, near);
                        near += 1;
                    }
                }
                if let Some(&j) = order[done..near].iter().find(|&&j| self.rows[j] == NONE) {
                    break j;
                }
            }
            let through = order[done];
            done += 1;
            let i = self.rows[through];
            let row = self.row(i);
            let base = row[through] - self.v[through] - least;
            let rest = near..self.n;
            for k in rest {
                let j = order[k];
                let reached = row[j] - self.v[j] - base;
                if reached < distance[j] {
                    before[j] = i;
                    distance[j] = reached;
                    if reached <= least {
                        // Rounding may put it slightly below; distances never decrease along a
                        // path.
                        distance[j] = least;
                        if self.rows[j] == NONE {
                            break 'search j;
                        }
                        order.swap(k, near);
                        near += 1;
                    }
                }
            }
        };
        for &j in &order[..finished] {
            self.v[j] += distance[j] - least;
        }
        let mut j = end;
        loop {
            let i = before[j];
            self.rows[j] = i;
            std::mem::swap(&mut self.columns[i], &mut j);
            if i == start {
                break;
            }
        }
    }
}

/// The workspace of a search for a path.
struct Search {
    /// `[n]`: the least sum of reduced costs found to reach each column.
    distance: Vec<f64>,
    /// `[n]`: the row from which each column is reached.
    before: Vec<usize>,
    /// `[n]`: the columns, final ones first.
    order: Vec<usize>,
}

impl Search {
    fn new(n: usize) -> Search {
        Search { distance: vec![0.0; n], before: vec![0; n], order: (0..n).collect() }
    }
}

/// The allowed error of the duals by rounding, relative to the largest |C_ij|.
pub const TOLERANCE: f64 = 1e-9;

/// The reason why an assignment is not certified.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Uncertified {
    /// Some row has no column, or some column two rows.
    NotAnAssignment,
    /// u_i + v_j exceeds C_ij by this much.
    Infeasible {
        /// i.
        row: usize,
        /// j.
        column: usize,
        /// u_i + v_j - C_ij.
        excess: f64,
    },
    /// Row and column are matched, but C_ij exceeds u_i + v_j by this much.
    Slack {
        /// i.
        row: usize,
        /// j, the column of row i.
        column: usize,
        /// C_ij - (u_i + v_j).
        slack: f64,
    },
}

impl fmt::Display for Uncertified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Uncertified::NotAnAssignment => write!(f, "not every row has a column of its own"),
            Uncertified::Infeasible { row, column, excess } => {
                write!(
                    f,
                    "the duals of row {row} and column {column} exceed their cost by {excess:e}"
                )
            }
            Uncertified::Slack { row, column, slack } => {
                write!(
                    f,
                    "row {row} and column {column} are matched, but their cost exceeds their duals \
                     by {slack:e}"
                )
            }
        }
    }
}

impl std::error::Error for Uncertified {}

/// Checks the duals within [`TOLERANCE`] and returns a bound: no assignment's total is lower by
/// more than that.
///
/// By weak duality any assignment costs at least sum u + sum v - n e, if no u_i + v_j exceeds C_ij
/// by more than e.
///
/// # Panics
/// If `cost` is not [n, n].
pub fn certify(cost: &[f64], n: usize, assignment: &Assignment) -> Result<f64, Uncertified> {
    assert_eq!(cost.len(), n * n, "costs are not [{n}, {n}]");
    let Assignment { columns, u, v } = assignment;
    let mut taken = vec![false; n];
    let fits = columns.len() == n && u.len() == n && v.len() == n;
    if !fits || !columns.iter().all(|&j| j < n && !std::mem::replace(&mut taken[j], true)) {
        return Err(Uncertified::NotAnAssignment);
    }
    let allowed = TOLERANCE * cost.iter().fold(0.0f64, |most, c| most.max(c.abs()));
    let (mut worst, mut slack_sum) = (0.0f64, 0.0);
    for row in 0..n {
        for (column, (c, v)) in cost[row * n..(row + 1) * n].iter().zip(v).enumerate() {
            let slack = c - (u[row] + v);
            if slack < -allowed || slack.is_nan() {
                return Err(Uncertified::Infeasible { row, column, excess: -slack });
            }
            worst = worst.max(-slack);
            if column == columns[row] {
                if slack > allowed {
                    return Err(Uncertified::Slack { row, column, slack });
                }
                slack_sum += slack;
            }
        }
    }
    Ok((slack_sum + n as f64 * worst).max(0.0))
}

/// The sum of the assigned costs, over the rows in order.
pub fn total(cost: &[f64], columns: &[usize]) -> f64 {
    columns.iter().enumerate().map(|(i, &j)| cost[i * columns.len() + j]).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::rng;
    use proptest::prelude::*;

    /// The least total over all permutations.
    fn brute_force(cost: &[f64], n: usize, row: usize, free: &mut Vec<usize>) -> f64 {
        (0..free.len()).fold(if row == n { 0.0 } else { f64::INFINITY }, |least, k| {
            let j = free.swap_remove(k);
            let total = cost[row * n + j] + brute_force(cost, n, row + 1, free);
            free.push(j);
            let last = free.len() - 1;
            free.swap(k, last);
            least.min(total)
        })
    }

    #[track_caller]
    fn solved(cost: &[f64], n: usize) -> f64 {
        let assignment = assign(cost, n).expect("finite costs");
        let gap = certify(cost, n, &assignment).expect("a certificate");
        let scale = cost.iter().fold(0.0f64, |most, c| most.max(c.abs()));
        assert!(gap <= 1e-9 * scale * (n as f64 + 1.0), "a gap of {gap}");
        total(cost, &assignment.columns)
    }

    fn square(
        cost: impl Strategy<Value = f64> + Clone,
        max: usize,
    ) -> impl Strategy<Value = (usize, Vec<f64>)> {
        (0..=max).prop_flat_map(move |n| (Just(n), prop::collection::vec(cost.clone(), n * n)))
    }

    proptest! {
        #[test]
        fn no_permutation_is_cheaper((n, cost) in square(-10.0f64..10.0, 7)) {
            let least = brute_force(&cost, n, 0, &mut (0..n).collect());
            prop_assert!((solved(&cost, n) - least).abs() < 1e-9);
        }

        #[test]
        fn no_permutation_is_cheaper_among_many_ties(
            (n, cost) in square((0i8..3).prop_map(f64::from), 7),
        ) {
            prop_assert_eq!(solved(&cost, n), brute_force(&cost, n, 0, &mut (0..n).collect()));
        }

        #[test]
        fn larger_problems_are_certified((n, cost) in square((0i32..40).prop_map(f64::from), 60)) {
            solved(&cost, n);
        }

        #[test]
        fn a_constant_added_to_a_column_keeps_the_assignment(
            (n, cost) in square(0.0f64..1.0, 6),
            at in 0usize..6,
        ) {
            let shift = |(k, c): (usize, &f64)| if k % n == at { c - 0.5 } else { *c };
            let shifted: Vec<f64> = cost.iter().enumerate().map(shift).collect();
            let moved = if at < n { 0.5 } else { 0.0 };
            prop_assert!((solved(&cost, n) - moved - solved(&shifted, n)).abs() < 1e-9);
        }
    }

    #[test]
    fn equal_costs_and_extreme_scales_are_solved() {
        for n in [0, 1, 2, 50] {
            assert_eq!(solved(&vec![3.0; n * n], n), 3.0 * n as f64);
            assert_eq!(solved(&vec![0.0; n * n], n), 0.0);
        }
        solved(&[1e-300, 1e300, 1.0, -1e300], 2);
    }

    #[test]
    fn a_large_problem_of_every_kind_of_cost_is_certified() {
        let n = 300;
        let mut rng = rng::stream("0", "assignment");
        let x: Vec<f64> = (0..2 * n).map(|_| rng::normal(&mut rng)).collect();
        let (a, b) = x.split_at(n);
        let pairs = || (0..n * n).map(|k| (a[k / n], b[k % n]));
        solved(&pairs().map(|(a, b)| (a - b) * (a - b)).collect::<Vec<_>>(), n);
        solved(&pairs().map(|(a, b)| a * b).collect::<Vec<_>>(), n);
        solved(&pairs().map(|(a, b)| (a + b).round()).collect::<Vec<_>>(), n);
        solved(&(0..n * n).map(|k| ((k / n + 1) * (k % n + 1)) as f64).collect::<Vec<_>>(), n);
        solved(&(0..n * n).map(|_| rng::uniform(&mut rng)).collect::<Vec<_>>(), n);
    }

    #[test]
    fn costs_out_of_range_are_refused() {
        for broken in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 2e300] {
            assert_eq!(assign(&[0.0, 1.0, broken, 0.0], 2), Err(OutOfRange { row: 1, column: 0 }));
        }
    }

    #[test]
    fn an_assignment_that_is_not_optimal_is_not_certified() {
        let cost = [1.0, 2.0, 3.0, 1.0];
        let good = assign(&cost, 2).expect("finite costs");
        assert!(certify(&cost, 2, &good).is_ok());
        let swapped = Assignment { columns: vec![1, 0], ..good.clone() };
        assert!(matches!(certify(&cost, 2, &swapped), Err(Uncertified::Slack { .. })));
        let greedy = Assignment { u: vec![2.0, 3.0], v: vec![0.0, 0.0], ..swapped };
        assert!(matches!(certify(&cost, 2, &greedy), Err(Uncertified::Infeasible { .. })));
        let nan = Assignment { u: vec![f64::NAN; 2], ..good.clone() };
        assert!(matches!(certify(&cost, 2, &nan), Err(Uncertified::Infeasible { .. })));
        let doubled = Assignment { columns: vec![0, 0], ..good };
        assert_eq!(certify(&cost, 2, &doubled), Err(Uncertified::NotAnAssignment));
    }
}
