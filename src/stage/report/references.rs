//! The publications that this study follows.

use super::Report;
use crate::report::document::Block;
use crate::report::markdown::escape;
use crate::study::curve::CurveKind;
use anyhow::Result;

/// A publication.
struct Reference {
    authors: &'static str,
    title: &'static str,
    /// Where and when it appeared.
    venue: &'static str,
    link: Link,
    /// What the report takes from it.
    used_for: &'static str,
}

/// The permanent address of a publication.
#[derive(Clone, Copy)]
enum Link {
    Arxiv(&'static str),
    Doi(&'static str),
    Url(&'static str),
}

impl Link {
    fn markdown(self) -> String {
        match self {
            Link::Arxiv(id) => format!("[arXiv:{id}](https://arxiv.org/abs/{id})"),
            Link::Doi(doi) => format!("[doi:{doi}](https://doi.org/{doi})"),
            Link::Url(url) => format!("[{url}]({url})"),
        }
    }
}

const CURVES: Reference = Reference {
    authors: "I. Anokhin, D. Yarotsky",
    title: "Low-loss connection of weight vectors: distribution-based approaches",
    venue: "ICML 2020",
    link: Link::Arxiv("2008.00741"),
    used_for: "arc, optimal transport (OT) and weight adjustment (WA)",
};

const MODE_CONNECTIVITY: Reference = Reference {
    authors: "T. Garipov, P. Izmailov, D. Podoprikhin, D. Vetrov, A. G. Wilson",
    title: "Loss surfaces, mode connectivity, and fast ensembling of DNNs",
    venue: "NeurIPS 2018",
    link: Link::Arxiv("1802.10026"),
    used_for: "minima are connected by simple curves",
};

const LINEAR_CONNECTIVITY: Reference = Reference {
    authors: "J. Frankle, G. K. Dziugaite, D. M. Roy, M. Carbin",
    title: "Linear mode connectivity and the lottery ticket hypothesis",
    venue: "ICML 2020",
    link: Link::Arxiv("1912.05671"),
    used_for: "the barrier on the straight line",
};

const PERMUTATIONS: Reference = Reference {
    authors: "R. Entezari, H. Sedghi, O. Saukh, B. Neyshabur",
    title: "The role of permutation invariance in linear mode connectivity of neural networks",
    venue: "ICLR 2022",
    link: Link::Arxiv("2110.06296"),
    used_for: "barriers up to the order of the neurons",
};

const RE_BASIN: Reference = Reference {
    authors: "S. K. Ainsworth, J. Hayase, S. Srinivasa",
    title: "Git Re-Basin: merging models modulo permutation symmetries",
    venue: "ICLR 2023",
    link: Link::Arxiv("2209.04836"),
    used_for: "weight matching, which is OT with whole neurons",
};

const ENSEMBLES: [Reference; 3] = [
    Reference {
        authors: "B. Lakshminarayanan, A. Pritzel, C. Blundell",
        title: "Simple and scalable predictive uncertainty estimation using deep ensembles",
        venue: "NeurIPS 2017",
        link: Link::Arxiv("1612.01474"),
        used_for: "the mean of the probabilities of independent nets",
    },
    Reference {
        authors: "C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger",
        title: "On calibration of modern neural networks",
        venue: "ICML 2017",
        link: Link::Arxiv("1706.04599"),
        used_for: "the expected calibration error (ECE)",
    },
    Reference {
        authors: "M. Wortsman and others",
        title: "Model soups: averaging weights of multiple fine-tuned models improves accuracy \
                without increasing inference time",
        venue: "ICML 2022",
        link: Link::Arxiv("2203.05482"),
        used_for: "averages of weights",
    },
];

const DROPOUT_PATH: Reference = Reference {
    authors: "R. Kuditipudi, X. Wang, H. Lee, Y. Zhang, Z. Li, W. Hu, S. Arora, R. Ge",
    title: "Explaining landscape connectivity of low-cost solutions for multilayer nets",
    venue: "NeurIPS 2019",
    link: Link::Arxiv("1906.06247"),
    used_for: "the dropout-stable path",
};

const REPAIR: Reference = Reference {
    authors: "K. Jordan, H. Sedghi, O. Saukh, R. Entezari, B. Neyshabur",
    title: "REPAIR: REnormalizing Permuted Activations for Interpolation Repair",
    venue: "ICLR 2023",
    link: Link::Arxiv("2211.08403"),
    used_for: "rescaling of hidden neurons (REPAIR)",
};

const MNIST: Reference = Reference {
    authors: "Y. LeCun, L. Bottou, Y. Bengio, P. Haffner",
    title: "Gradient-based learning applied to document recognition",
    venue: "Proceedings of the IEEE 86, 1998",
    link: Link::Doi("10.1109/5.726791"),
    used_for: "the MNIST images",
};

const STATISTICS: [Reference; 4] = [
    Reference {
        authors: "B. Efron, C. Stein",
        title: "The jackknife estimate of variance",
        venue: "The Annals of Statistics 9, 1981",
        link: Link::Doi("10.1214/aos/1176345462"),
        used_for: "intervals over pairs that share nets",
    },
    Reference {
        authors: "F. E. Satterthwaite",
        title: "An approximate distribution of estimates of variance components",
        venue: "Biometrics Bulletin 2, 1946",
        link: Link::Doi("10.2307/3002019"),
        used_for: "degrees of freedom",
    },
    Reference {
        authors: "B. L. Welch",
        title: "The generalization of 'Student's' problem when several different population \
                variances are involved",
        venue: "Biometrika 34, 1947",
        link: Link::Doi("10.1093/biomet/34.1-2.28"),
        used_for: "the contrast between widths",
    },
    Reference {
        authors: "S. Holm",
        title: "A simple sequentially rejective multiple test procedure",
        venue: "Scandinavian Journal of Statistics 6, 1979",
        link: Link::Url("https://www.jstor.org/stable/4615733"),
        used_for: "the adjustment of p",
    },
];

pub(super) fn section(report: &Report) -> Result<Vec<Block>> {
    let measured = &report.measured;
    let mut references = vec![CURVES, MODE_CONNECTIVITY, LINEAR_CONNECTIVITY];
    if measured.methods().iter().any(|method| method.alignment.is_some()) {
        references.extend([PERMUTATIONS, RE_BASIN]);
    }
    if measured.methods().iter().any(|method| matches!(method.curve, CurveKind::DropoutPath)) {
        references.push(DROPOUT_PATH);
    }
    if measured.methods().iter().any(|method| method.repair) {
        references.push(REPAIR);
    }
    if report.ensembles.is_some() {
        references.extend(ENSEMBLES);
    }
    if !measured.published.is_empty() {
        references.push(MNIST);
    }
    references.extend(STATISTICS);
    let lines = references.iter().map(|reference| {
        format!(
            "1. {}. *{}*. {}. {}. Used here: {}.\n",
            escape(reference.authors),
            escape(reference.title),
            escape(reference.venue),
            reference.link.markdown(),
            escape(reference.used_for)
        )
    });
    let mut text: String = lines.collect();
    if !measured.published.is_empty() {
        text += "\nThe published numbers are those of the talk whose tables this study repeats; \
                 the file `talk_tables.csv` of the program has all of them.\n";
    }
    Ok(vec![Block::Text(text)])
}
